#include "data/synth/set_folder.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <span>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/image/decode.h"

namespace vl2::data::synth {
namespace {

namespace fs = std::filesystem;

SetOptions small_set(int64_t records = 30) {
  SetOptions options;
  options.records = records;
  options.maker.seed = 4;
  options.maker.tile = 96;
  options.threads = 1;
  return options;
}

// Many records that take no time.
SetOptions long_set() {
  SetOptions options = small_set(4500);
  options.maker.weights = parse_skills("text=400,colour");
  return options;
}

std::map<std::string, std::string> content_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
  return files;
}

ErrorCode refusal(const fs::path& folder, const SetOptions& options) {
  try {
    write_set(folder, options);
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was refused";
  return ErrorCode::kInternal;
}

TEST(SetFolder, BytesDoNotDependOnTheNumberOfThreads) {
  const TempFolder temp;
  SetOptions options = small_set();
  const SetReport report = write_set(temp / "one", options);
  options.threads = 3;
  write_set(temp / "three", options);
  const auto files = content_of(temp / "one");
  EXPECT_EQ(files, content_of(temp / "three"));
  EXPECT_TRUE(report.whole);
  EXPECT_EQ(report.records, 30);
  EXPECT_EQ(files.size(), static_cast<size_t>(report.pictures) + 2);
}

TEST(SetFolder, EveryPictureOfEveryLineIsThere) {
  const TempFolder temp;
  const SetReport report = write_set(temp / "set", small_set());
  std::ifstream lines(report.records_file);
  int64_t records = 0, questions = 0;
  for (std::string line; std::getline(lines, line); ++records) {
    const auto record = nlohmann::json::parse(line);
    questions += static_cast<int64_t>(record["messages"].size()) / 2;
    for (const auto& path : record.value("images", nlohmann::json::array())) {
      const std::string png = read_file(temp / "set" / path.get<std::string>());
      const Image image = decode_image(std::as_bytes(std::span(png)), "picture");
      EXPECT_GE(image.width, 48);
    }
  }
  EXPECT_EQ(records, 30);
  EXPECT_EQ(questions, report.questions);
}

TEST(SetFolder, AnInterruptedRunGoesOnAndEndsWithTheSameBytes) {
  const TempFolder temp;
  SetOptions options = long_set();
  const SetReport straight = write_set(temp / "straight", options);
  options.progress = [](int64_t, int64_t) { return false; };
  const SetReport stopped = write_set(temp / "stopped", options);
  EXPECT_FALSE(stopped.whole);
  EXPECT_GT(stopped.records, 0);
  EXPECT_LT(stopped.records, 4500);
  EXPECT_FALSE(fs::exists(temp / "stopped/train.jsonl"));
  // A run that died while it wrote: half a line is behind the whole chunk.
  std::ofstream(temp / "stopped/train.jsonl.part", std::ios::app) << "{\"id\": \"train-000";
  options.progress = nullptr;
  options.threads = 2;
  const SetReport resumed = write_set(temp / "stopped", options);
  EXPECT_TRUE(resumed.whole);
  EXPECT_EQ(resumed.resumed_at, stopped.records);
  EXPECT_EQ(resumed.questions, straight.questions);
  EXPECT_EQ(resumed.pictures, straight.pictures);
  EXPECT_EQ(content_of(temp / "stopped"), content_of(temp / "straight"));
}

TEST(SetFolder, WhatIsThereIsNotOverwrittenUnlessAsked) {
  const TempFolder temp;
  SetOptions options = small_set(3);
  fs::create_directories(temp / "other/inner");
  EXPECT_EQ(refusal(temp / "other", options), ErrorCode::kInvalidArgument);
  options.replace = true;
  EXPECT_EQ(refusal(temp / "other", options), ErrorCode::kInvalidArgument) << "not a set: never deleted";
  EXPECT_TRUE(fs::exists(temp / "other/inner"));
  options.replace = false;
  write_file_atomic(temp / "file", "x");
  EXPECT_EQ(refusal(temp / "file", options), ErrorCode::kInvalidArgument);

  write_set(temp / "set", options);
  options.maker.seed = 5;
  EXPECT_EQ(refusal(temp / "set", options), ErrorCode::kInvalidArgument) << "whole, of another seed";
  options.replace = true;
  EXPECT_TRUE(write_set(temp / "set", options).whole);
}

TEST(SetFolder, AWholeSetIsNotMadeAgain) {
  const TempFolder temp;
  const SetOptions options = small_set(5);
  const SetReport made = write_set(temp / "set", options);
  const auto before = content_of(temp / "set");
  const SetReport again = write_set(temp / "set", options);
  EXPECT_TRUE(again.whole);
  EXPECT_EQ(again.resumed_at, 5);
  EXPECT_EQ(again.records, 5);
  EXPECT_EQ(again.questions, made.questions);
  EXPECT_EQ(again.pictures, made.pictures);
  EXPECT_EQ(again.picture_bytes, 0u);
  EXPECT_EQ(content_of(temp / "set"), before);
  const std::string lines = before.at("train.jsonl");
  write_file_atomic(temp / "set/train.jsonl", lines.substr(0, lines.rfind("{\"id\"")));
  EXPECT_EQ(refusal(temp / "set", options), ErrorCode::kCorrupt);
}

TEST(SetFolder, TheBeginningOfAnotherSetIsNotGoneOnWith) {
  const TempFolder temp;
  SetOptions options = long_set();
  options.progress = [](int64_t, int64_t) { return false; };
  write_set(temp / "set", options);
  options.maker.seed = 99;
  EXPECT_EQ(refusal(temp / "set", options), ErrorCode::kInvalidArgument);
  write_file_atomic(temp / "set/synth.json", "{\"whole\": false");
  EXPECT_EQ(refusal(temp / "set", options), ErrorCode::kCorrupt);
}

TEST(SetFolder, ImpossibleNumbersAreRefusedBeforeAFolderIsMade) {
  const TempFolder temp;
  EXPECT_EQ(refusal(temp / "set", small_set(0)), ErrorCode::kInvalidArgument);
  SetOptions options = small_set();
  options.threads = -1;
  EXPECT_EQ(refusal(temp / "set", options), ErrorCode::kInvalidArgument);
  options = small_set();
  options.maker.tile = 1;
  EXPECT_EQ(refusal(temp / "set", options), ErrorCode::kInvalidArgument);
  EXPECT_FALSE(fs::exists(temp / "set"));
}

}  // namespace
}  // namespace vl2::data::synth

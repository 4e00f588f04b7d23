// vl2 data synth nano and vl2 eval nano, one after the other.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

const std::string kNano = std::string(source_dir()) + "/tests/goldens/nano/model";

std::vector<std::string> synth(const std::string& out, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"data", "synth", "nano", "--out", out, "--records", "12"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(NanoSet, ASetIsMadeAskedAndScored) {
  const TempFolder temp;
  const std::string set = (temp / "set").string(), records = set + "/test.jsonl", answers = (temp / "a.jsonl").string();
  const Outcome made = run_vl2(
      synth(set, {"--split", "test", "--questions", "one", "--tile", "384", "--skills", "colour,locate", "--json"}));
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_EQ(json::parse(made.out)["questions"], 12);
  EXPECT_EQ(names_in(set), (std::vector<std::string>{"images", "synth.json", "test.jsonl"}));

  const Outcome asked = run_vl2({"eval", "nano", records, "-m", kNano, "--out", answers, "--json", "--parallel", "4"});
  ASSERT_EQ(asked.exit_code, 0) << asked.err;
  const json report = json::parse(asked.out);
  EXPECT_EQ(report["all"]["questions"], 12);
  EXPECT_EQ(report["all"]["answered"], 12);
  EXPECT_EQ(report["skills"].size(), 2u);

  // One at a time gives the same answers; and scoring the file gives the same scores.
  const Outcome again =
      run_vl2({"eval", "nano", records, "-m", kNano, "--json", "--parallel", "1", "--compare", answers});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(json::parse(again.out)["agreement"]["equal"], 12);
  EXPECT_EQ(json::parse(again.out)["agreement"]["judged_alike"], 12);
  const Outcome scored = run_vl2({"eval", "nano", records, "--answers", answers, "--json"});
  EXPECT_EQ(json::parse(scored.out), report);
  const Outcome text = run_vl2({"eval", "nano", records, "--answers", answers, "--compare", answers});
  for (const char* word : {"colour", "locate", "mean IoU", "12 of 12 answers"})
    EXPECT_NE(text.out.find(word), std::string::npos) << text.out;
}

TEST(NanoSet, ARightAnswerIsScoredAsRight) {
  const TempFolder temp;
  const std::string set = (temp / "set").string(), records = set + "/train.jsonl",
                    answers = (temp / "a.jsonl").string();
  ASSERT_EQ(run_vl2(synth(set, {"--questions", "one", "--tile", "96"})).exit_code, 0);
  std::string lines;
  std::string text = read_file(records);
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    const json record = json::parse(text.substr(at, text.find('\n', at) - at));
    lines += json{{"id", record["id"]}, {"answer", record["messages"].back()["content"]}}.dump() + "\n";
  }
  write_file_atomic(answers, lines);
  const Outcome scored = run_vl2({"eval", "nano", records, "--answers", answers, "--json"});
  ASSERT_EQ(scored.exit_code, 0) << scored.err;
  EXPECT_EQ(json::parse(scored.out)["all"]["right"], 1.0);
}

TEST(NanoSet, WhatCannotBeDoneIsSaid) {
  const TempFolder temp;
  const std::string set = (temp / "set").string();
  ASSERT_EQ(run_vl2(synth(set)).exit_code, 0);
  const Outcome again = run_vl2(synth(set));
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_NE(again.out.find("there already"), std::string::npos) << again.out;
  expect_failure(run_vl2(synth(set, {"--seed", "2"})), "data synth nano",
                 {"finished set of other options", "--replace"});
  EXPECT_EQ(run_vl2(synth(set, {"--replace", "--seed", "2"})).exit_code, 0);
  expect_failure(run_vl2(synth(temp.path().string())), "data synth nano", {"not empty"});
  expect_failure(run_vl2(synth((temp / "x").string(), {"--skills", "flying"})), "data synth nano",
                 {"flying", "colour"});
  expect_failure(run_vl2(synth((temp / "x").string(), {"--fonts", "/nonexistent"})), "data synth nano",
                 {"fonts-dejavu-core", "--fonts"});
  expect_failure(run_vl2({"eval", "nano", set + "/train.jsonl"}), "eval nano", {"--questions one"});
  expect_failure(run_vl2({"eval", "nano", (temp / "absent.jsonl").string()}), "eval nano", {"absent.jsonl"});
  for (const std::vector<std::string>& wrong :
       {std::vector<std::string>{"data"},
        {"data", "synth"},
        {"data", "synth", "nano"},
        {"eval"},
        {"eval", "nano"},
        synth(set, {"--records", "0"}),
        synth(set, {"--tile", "9"}),
        synth(set, {"--split", "both"}),
        {"eval", "nano", "r.jsonl", "--answers", "a.jsonl", "--out", "b.jsonl"}})
    EXPECT_EQ(run_vl2(wrong).exit_code, 2) << wrong.back();
  EXPECT_EQ(names_in(temp.path()), std::vector<std::string>{"set"});
}

}  // namespace
}  // namespace vl2::cli_test

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
const std::string kPicture = std::string(source_dir()) + "/examples/6-small-landscape.png";

TEST(Quantize, ASmallerModelAnswersAndSaysWhatItIs) {
  const TempFolder temp;
  const int64_t before = json::parse(run_vl2({"info", kNano, "--json"}).out)["tensors"]["bytes"];
  int64_t last = 0;
  for (const std::string format : {"q4", "q8", "mixed"}) {
    const std::string out = (temp / format).string();
    const Outcome outcome = run_vl2({"quantize", kNano, out, "--format", format, "--json", "--shard-size", "0.002"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json report = json::parse(outcome.out);
    EXPECT_EQ(report["bytes_before"], before);
    EXPECT_GT(report["bytes_after"].get<int64_t>(), last) << "q4 is the smallest and mixed the largest of nano";
    last = report["bytes_after"];
    EXPECT_LT(last, before * 6 / 10);
    const json info = json::parse(run_vl2({"info", out, "--json"}).out);
    EXPECT_EQ(info["tensors"]["bytes"], last);
    EXPECT_EQ(info["quantization"]["format"], format);
    EXPECT_EQ(info["quantization"]["bytes"].contains("q4 panels"), format != "q8");
    EXPECT_GE(names_in(out).size(), names_in(kNano).size() + 2) << "shards and an index";
    for (const char* backend : {"cpu", "reference"}) {
      const Outcome answer =
          run_vl2({"ask", "-m", out, "-i", kPicture, "--backend", backend, "--threads", "1", "Describe the picture."});
      EXPECT_EQ(answer.out, "a yellow circle, a red square and an orange star\n") << format << ": " << answer.err;
    }
  }
  EXPECT_EQ(names_in(temp.path()), (std::vector<std::string>{"mixed", "q4", "q8"}));
}

TEST(Quantize, TheReportForPeopleNamesPartsAndSizes) {
  const TempFolder temp;
  const Outcome outcome = run_vl2({"quantize", kNano, (temp / "out").string()});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* word : {"routed experts", "vision encoder", "latent kv_b", "as stored", "bits a weight"})
    EXPECT_NE(outcome.out.find(word), std::string::npos) << word;
}

TEST(Quantize, WhatCannotBeDoneIsSaidAndLeavesNothing) {
  const TempFolder temp;
  const std::string out = (temp / "out").string();
  expect_failure(run_vl2({"quantize", kNano, kNano}), "quantize", {"the model itself"});
  expect_failure(run_vl2({"quantize", (temp / "absent").string(), out}), "quantize", {"absent"});
  std::filesystem::create_directories(temp / "full/inner");
  expect_failure(run_vl2({"quantize", kNano, (temp / "full").string()}), "quantize", {"not empty", "--force"});
  expect_failure(run_vl2({"quantize", kNano, (temp / "full").string(), "--force"}), "quantize", {"no config.json"});
  EXPECT_EQ(run_vl2({"quantize", kNano, out, "--format", "q3"}).exit_code, 2);
  EXPECT_EQ(names_in(temp.path()), (std::vector<std::string>{"full"}));
  ASSERT_EQ(run_vl2({"quantize", kNano, out}).exit_code, 0);
  ASSERT_EQ(run_vl2({"quantize", kNano, out, "--force"}).exit_code, 0);
  expect_failure(run_vl2({"quantize", out, (temp / "twice").string()}), "quantize", {"quantised already"});
}

TEST(Quantize, CalibratedScalesAreOthersAndTheModelAnswers) {
  const TempFolder temp;
  const std::string examples = std::string(source_dir()) + "/examples/calibration.jsonl";
  ASSERT_EQ(run_vl2({"quantize", kNano, (temp / "plain").string()}).exit_code, 0);
  const Outcome outcome =
      run_vl2({"quantize", kNano, (temp / "weighed").string(), "--calibrate", examples, "--threads", "1", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const char* file = "model-00001-of-000001.safetensors";
  EXPECT_FALSE(read_file(temp / "plain" / file) == read_file(temp / "weighed" / file));
  const json report = json::parse(outcome.out);
  for (const json& part : report["parts"]) {
    if (part["format"] != "q4") continue;
    EXPECT_LT(part["relative_error"], 0.13) << part["name"] << ": still the same weights";
  }
  const Outcome answer = run_vl2({"ask", "-m", (temp / "weighed").string(), "-i", kPicture, "Describe the picture."});
  EXPECT_EQ(answer.out, "a yellow circle, a red square and an orange star\n") << answer.err;
}

TEST(Quantize, WhatCannotBeCalibratedIsSaidAndLeavesNothing) {
  const TempFolder temp;
  const std::string out = (temp / "out").string(), file = (temp / "c.jsonl").string();
  const auto with = [&](const std::string& text) {
    write_file_atomic(file, text);
    return run_vl2({"quantize", kNano, out, "--calibrate", file});
  };
  const std::string good =
      R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "yes"}]})";
  EXPECT_EQ(run_vl2({"quantize", kNano, out, "--format", "q8", "--calibrate", file}).exit_code, 2);
  expect_failure(run_vl2({"quantize", kNano, out, "--calibrate", (temp / "absent").string()}), "quantize", {"absent"});
  expect_failure(with("\n \n"), "quantize", {"c.jsonl", "no conversation"});
  expect_failure(with(good + "\n\n{\"messages\": 3}\n"), "quantize", {"c.jsonl: line 3", "a list"});
  expect_failure(with(R"({"messages": [{"role": "user", "content": "<image>", "images": ["none.png"]}]})"), "quantize",
                 {"none.png"});
  expect_failure(with(R"({"messages": [{"role": "user", "content": "<image>"}], "image_sizes": [[9, 9]]})"), "quantize",
                 {"sizes of pictures"});
  EXPECT_EQ(names_in(temp.path()), (std::vector<std::string>{"c.jsonl"}));
}

TEST(Quantize, AModelOfAnotherProgramOrALaterVersionIsRefused) {
  const TempFolder temp;
  const std::string out = (temp / "out").string();
  ASSERT_EQ(run_vl2({"quantize", kNano, out}).exit_code, 0);
  const json good = json::parse(read_file(temp / "out/config.json"));
  const auto ask_with = [&](const json& quantization) {
    json config = good;
    config["quantization_config"] = quantization;
    write_file_atomic(temp / "out/config.json", config.dump());
    return run_vl2({"ask", "-m", out, "-i", kPicture, "Describe the picture."});
  };
  expect_failure(ask_with({{"quant_method", "awq"}, {"bits", 4}}), "ask", {"awq", "vl2"});
  json later = good["quantization_config"];
  later["version"] = 2;
  expect_failure(ask_with(later), "ask", {"version is 2"});
  expect_failure(ask_with(nullptr), "ask", {"no quantization_config"});
}

}  // namespace
}  // namespace vl2::cli_test

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

const std::string kNano = std::string(source_dir()) + "/tests/goldens/nano/model";

void write_request(const std::filesystem::path& path, const std::string& question) {
  const json request = {{"messages",
                         {{{"role", "user"},
                           {"content", "<image>\n" + question},
                           {"images", {std::string(source_dir()) + "/examples/6-small-landscape.png"}}},
                          {{"role", "assistant"}, {"content", ""}}}}};
  write_file_atomic(path, request.dump());
}

double error_of(const json& report, const std::string& stage) {
  for (const json& s : report["stages"])
    if (s["name"] == stage) return s["relative_error"];
  ADD_FAILURE() << "no stage " << stage;
  return -1;
}

TEST(Drift, AModelDoesNotDriftFromItself) {
  const TempFolder temp;
  write_request(temp / "a.json", "Describe the picture.");
  write_request(temp / "b.json", "What colour is the circle?");
  const Outcome outcome =
      run_vl2({"drift", kNano, kNano, "--request", (temp / "a.json").string(), "--request", (temp / "b.json").string(),
               "--compute-a", "f32", "--compute-b", "f32", "--generate", "20", "--threshold", "0", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  EXPECT_TRUE(report["first_above"].is_null());
  EXPECT_EQ(report["requests"], 2);
  for (const json& stage : report["stages"]) EXPECT_EQ(stage["relative_error"], 0.0) << stage;
  for (const json& router : report["routers"]) EXPECT_EQ(router["differing"], 0);
  for (const json& answer : report["answers"]) EXPECT_TRUE(answer["first_difference"].is_null());
}

TEST(Drift, AQuantisedModelDriftsAlongItsWay) {
  const TempFolder temp;
  const std::string q8 = (temp / "q8").string();
  ASSERT_EQ(run_vl2({"quantize", kNano, q8, "--format", "q8"}).exit_code, 0);
  write_request(temp / "a.json", "Describe the picture.");
  const Outcome outcome = run_vl2({"drift", kNano, q8, "--backend-a", "reference", "--backend-b", "reference",
                                   "--request", (temp / "a.json").string(), "--generate", "4", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  // A step of 8 bits is 0.7 % of a weight; layers add to it, and do not blow it up.
  EXPECT_GT(error_of(report, "vision.patch_embed"), 1e-3);
  EXPECT_LT(error_of(report, "vision.patch_embed"), 1e-2);
  EXPECT_LT(error_of(report, "hidden.4"), 0.05);
  EXPECT_GT(report["prompt_logits"]["mean_kl"], 0.0);
  EXPECT_LT(report["prompt_logits"]["mean_kl"], 0.01);
  EXPECT_EQ(report["answers"].size(), 1);
}

TEST(Drift, TheTableNamesTheFirstStageThatParts) {
  const TempFolder temp;
  write_request(temp / "a.json", "Describe the picture.");
  const Outcome outcome = run_vl2({"drift", kNano, "--compute-a", "f32", "--compute-b", "bf16", "--request",
                                   (temp / "a.json").string(), "--threshold", "1e-9"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("first above 1e-09: vision.patch_embed"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("1 of 1 answers are the same"), std::string::npos) << outcome.out;
}

TEST(Drift, SidesThatCannotBeComparedAreRefused) {
  const TempFolder temp;
  const Outcome same = run_vl2({"drift", kNano});
  EXPECT_EQ(same.exit_code, 2);
  EXPECT_NE(same.err.find("--compute-b"), std::string::npos);
  expect_failure(run_vl2({"drift", kNano, (temp / "absent").string()}), "drift", {"absent"});
  expect_failure(run_vl2({"drift", kNano, "--compute-b", "bf16", "--request", (temp / "no.json").string()}), "drift",
                 {"no.json"});
}

}  // namespace
}  // namespace vl2::cli_test

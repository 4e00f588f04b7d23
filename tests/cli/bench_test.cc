#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/temp_folder.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

double better(const json& repeat, const std::string& limit) {
  return std::max(repeat["before"][limit].get<double>(), repeat["after"][limit].get<double>());
}

// The floor is made of the limits beside this very repeat.
void expect_own_floor(const json& r, const json& repeat) {
  const double seconds = repeat["seconds"], floor = repeat["floor_s"];
  const double compute = r["flops"].get<double>() / (better(repeat, r["unit"].get<std::string>() + "_tflops") * 1e12);
  const double read = r["bytes"].get<double>() / (better(repeat, "read_gbps") * 1e9);
  EXPECT_NEAR(floor, std::max(compute, read), 1e-9 * floor);
  EXPECT_NEAR(repeat["share"], floor / seconds, 1e-9);
}

// Nothing here asserts a speed: machines differ.
TEST(Bench, EveryResultStandsBesideTheLimitItIsMeasuredBy) {
  const Outcome outcome = run_vl2(
      {"bench", "--repeats", "2", "--generated", "2", "--tokens", "20", "--tiles", "2", "--threads", "2", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  ASSERT_EQ(report["results"].size(), 3u);
  const std::vector<std::string> work = {"vision", "prefill", "decode"};
  for (size_t i = 0; i < 3; ++i) {
    const json& r = report["results"][i];
    EXPECT_EQ(r["work"], work[i]);
    EXPECT_EQ(r["format"], "bf16");
    EXPECT_LE(r["min_s"], r["median_s"]);
    EXPECT_LE(r["median_s"], r["max_s"]);
    EXPECT_GT(r["share"], 0);
    EXPECT_LE(r["share_min"], r["share"]);
    EXPECT_LE(r["share"], r["share_max"]);
    EXPECT_TRUE(report["limits"].contains(r["unit"].get<std::string>() + "_tflops")) << r["unit"];
    ASSERT_EQ(r["repeats"].size(), 2u);
    for (const json& repeat : r["repeats"]) expect_own_floor(r, repeat);
    EXPECT_NEAR(r["share"], (r["repeats"][0]["share"].get<double>() + r["repeats"][1]["share"].get<double>()) / 2,
                1e-9);
  }
  EXPECT_EQ(report["results"][0]["tiles"], 2);
  EXPECT_EQ(report["results"][1]["tokens"], 20);
  EXPECT_NEAR(report["results"][2]["per_s"].get<double>() * report["results"][2]["median_s"].get<double>(), 1, 1e-6);
  EXPECT_EQ(report["machine"]["threads"], 2);
  EXPECT_GT(report["peak_rss_bytes"], report["weight_bytes"]);
}

// Independent counts of the same work: from the list of tensors, and from the operations that ran on packed weights.
void expect_the_same_counts(const json& r, double steps, double tolerance) {
  double bytes = 0, flops = 0, part = 0;
  for (const json& op : r["ops"]) {
    bytes += op["weight_bytes"].get<double>() + op["cache_bytes"].get<double>();
    flops += op["flops"].get<double>();
    part += op["part"].get<double>();
    EXPECT_GT(op["share"], 0) << op["op"];
  }
  EXPECT_NEAR(bytes / steps, r["bytes"], tolerance * r["bytes"].get<double>()) << r["format"] << " " << r["batch"];
  EXPECT_NEAR(flops / steps, r["flops"], tolerance * r["flops"].get<double>()) << r["format"] << " " << r["batch"];
  EXPECT_NEAR(part, 1, 1e-9);
}

TEST(Bench, OperationsMoveTheBytesThatTheFloorCounts) {
  const Outcome outcome = run_vl2({"bench", "decode", "--repeats", "1", "--generated", "4", "--context", "40",
                                   "--batch", "1,3", "--ops", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  ASSERT_EQ(report["results"].size(), 2u);
  for (const json& r : report["results"]) expect_the_same_counts(r, 4, 0.02);
}

TEST(Bench, EveryFormatCountsTheBytesOfItsPanels) {
  std::map<std::string, double> bytes;
  for (const char* preset : {"test-tiny", "test-small"}) {
    for (const char* format : {"bf16", "q8", "q4", "mixed"}) {
      const Outcome outcome = run_vl2({"bench", "decode", "--preset", preset, "--format", format, "--repeats", "1",
                                       "--generated", "2", "--ops", "--json"});
      ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
      const json report = json::parse(outcome.out);
      const json& r = report["results"][0];
      EXPECT_EQ(r["format"], format);
      expect_the_same_counts(r, 2, 0.05);  // toys: norms, which operations do not count, weigh more
      const std::string unit = r["unit"];
      EXPECT_EQ(unit.ends_with("_int8"), std::string(format) != "bf16") << unit << " for " << format;
      bytes[format] = r["bytes"];
    }
    EXPECT_LT(bytes["q8"], bytes["bf16"]);
    EXPECT_LT(bytes["mixed"], bytes["q8"]);
    EXPECT_LT(bytes["q4"], bytes["mixed"]);
  }
  EXPECT_EQ(run_vl2({"bench", "decode", "--format", "q8"}).exit_code, 2);  // a folder has its own
}

TEST(Bench, ContextsBatchesAndLengthsEachGiveAResult) {
  const Outcome outcome = run_vl2(
      {"bench", "decode", "--repeats", "1", "--generated", "2", "--context", "0,9", "--batch", "1,2,5", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json results = json::parse(outcome.out)["results"];
  ASSERT_EQ(results.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    const json& r = results[i];
    EXPECT_EQ(r["context"], i < 3 ? 0 : 9);
    EXPECT_EQ(r["batch"], (std::vector<int>{1, 2, 5})[i % 3]);
    EXPECT_NEAR(r["per_s"].get<double>() * r["median_s"].get<double>(), r["batch"].get<double>(), 1e-6);
    EXPECT_NEAR(r["speed_up"].get<double>() * results[i / 3 * 3]["per_s"].get<double>(), r["per_s"].get<double>(),
                1e-6);
    // A token has its own experts; together they use no more than all their tokens alone would.
    const double experts = r["experts"], alone = results[i / 3 * 3]["experts"];
    EXPECT_GE(experts, alone);
    EXPECT_LE(experts, alone * r["batch"].get<double>());
    EXPECT_GT(r["bytes"], results[i / 3 * 3]["bytes"].get<double>() - 1);
  }
  const Outcome prefill = run_vl2({"bench", "prefill", "--repeats", "1", "--tokens", "3,30", "--json"});
  ASSERT_EQ(prefill.exit_code, 0) << prefill.err;
  const json lengths = json::parse(prefill.out)["results"];
  ASSERT_EQ(lengths.size(), 2u);
  EXPECT_EQ(lengths[0]["tokens"], 3);
  EXPECT_EQ(lengths[1]["tokens"], 30);
  EXPECT_GT(lengths[1]["flops"], 9 * lengths[0]["flops"].get<double>());
}

TEST(Bench, LoadingIsTimedToTheFirstToken) {
  const Outcome outcome = run_vl2({"bench", "load", "--repeats", "2", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  ASSERT_EQ(report["results"].size(), 1u);
  EXPECT_EQ(report["results"][0]["work"], "load");
  EXPECT_EQ(report["results"][0]["repeats"].size(), 2u);
  EXPECT_GT(report["results"][0]["median_s"], 0);
  EXPECT_FALSE(report["results"][0].contains("share"));  // loading has no one limit
  EXPECT_EQ(run_vl2({"bench", "load", "--preset", "tiny"}).exit_code, 2);
}

TEST(Bench, SavedReportsAreComparedWithoutMeasuring) {
  const TempFolder folder;
  RunOptions to_file;
  to_file.stdout_file = folder / "a.json";
  ASSERT_EQ(run_vl2({"bench", "decode", "--repeats", "2", "--generated", "2", "--json"}, to_file).exit_code, 0);
  const std::string file = to_file.stdout_file.string();
  const Outcome same = run_vl2({"bench", "--compare", file, file, "--json"});
  ASSERT_EQ(same.exit_code, 0) << same.err;
  const json changes = json::parse(same.out)["changes"];
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0]["ratio"], 1.0);
  EXPECT_EQ(changes[0]["differs"], false);
  EXPECT_NE(run_vl2({"bench", "--compare", file, file}).out.find("no difference"), std::string::npos);
  expect_failure(run_vl2({"bench", "--compare", file, (folder / "none.json").string()}), "bench", {"none.json"});
  EXPECT_EQ(run_vl2({"bench", "--compare", file}).exit_code, 2);
}

TEST(Bench, TheForcedKernelsAreTheOnesMeasured) {
  RunOptions options;
  options.environment = {{"VL2_CPU_ISA", "scalar"}};
  const Outcome outcome = run_vl2({"bench", "prefill", "--repeats", "1", "--tokens", "8", "--json"}, options);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  EXPECT_NE(report["runs_on"].get<std::string>().find("scalar kernels"), std::string::npos);
  EXPECT_EQ(report["results"][0]["unit"], "scalar_f32");
  EXPECT_EQ(report["machine"]["kernels"], "scalar");
}

TEST(Bench, WrongUseIsRefused) {
  EXPECT_EQ(run_vl2({"bench", "everything"}).exit_code, 2);
  EXPECT_EQ(run_vl2({"bench", "--preset", "huge"}).exit_code, 2);
  EXPECT_EQ(run_vl2({"bench", "--preset", "test-tiny", "--format", "q2"}).exit_code, 2);
  expect_failure(run_vl2({"bench", "vision", "--tiles", "1"}), "bench", {"--tiles 1", "at least 2"});
  expect_failure(run_vl2({"bench", "decode", "--repeats", "0"}), "bench", {"--repeats 0"});
  expect_failure(run_vl2({"bench", "prefill", "--layers", "99"}), "bench", {"--layers 99"});
}

}  // namespace
}  // namespace vl2::cli_test

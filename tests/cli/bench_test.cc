#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/process.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

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
    const double median = r["median_s"], floor = r["floor_s"];
    EXPECT_LE(r["min_s"], r["median_s"]);
    EXPECT_LE(r["median_s"], r["max_s"]);
    EXPECT_NEAR(r["share"], floor / median, 1e-9);
    const std::string limit = r["limit"];
    if (work[i] == "decode") {
      EXPECT_NEAR(floor, r["bytes"].get<double>() / (report["limits"]["read_gbps"].get<double>() * 1e9), 1e-12);
      EXPECT_NEAR(r["per_s"].get<double>(), 1 / median, 1e-6 / median);
    } else {
      ASSERT_TRUE(report["limits"].contains(limit + "_tflops")) << limit;
      EXPECT_NEAR(floor, r["flops"].get<double>() / (report["limits"][limit + "_tflops"].get<double>() * 1e12), 1e-12);
    }
  }
  EXPECT_EQ(report["results"][0]["tiles"], 2);
  EXPECT_EQ(report["results"][1]["tokens"], 20);
  EXPECT_GT(report["peak_rss_bytes"], report["weight_bytes"]);
}

TEST(Bench, TheForcedKernelsAreTheOnesMeasured) {
  RunOptions options;
  options.environment = {{"VL2_CPU_ISA", "scalar"}};
  const Outcome outcome = run_vl2({"bench", "prefill", "--repeats", "1", "--tokens", "8", "--json"}, options);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  EXPECT_NE(report["runs_on"].get<std::string>().find("scalar kernels"), std::string::npos);
  EXPECT_EQ(report["results"][0]["limit"], "scalar_f32");
}

TEST(Bench, WrongUseIsRefused) {
  EXPECT_EQ(run_vl2({"bench", "everything"}).exit_code, 2);
  EXPECT_EQ(run_vl2({"bench", "--preset", "huge"}).exit_code, 2);
  EXPECT_EQ(run_vl2({"bench", "--format", "q2"}).exit_code, 2);
  expect_failure(run_vl2({"bench", "vision", "--tiles", "1"}), "bench", {"--tiles 1", "at least 2"});
  expect_failure(run_vl2({"bench", "decode", "--repeats", "0"}), "bench", {"--repeats 0"});
  expect_failure(run_vl2({"bench", "prefill", "--layers", "99"}), "bench", {"--layers 99"});
}

}  // namespace
}  // namespace vl2::cli_test

#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "cli/server_process.h"
#include "core/base/file.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

// Nothing here asserts a speed.
TEST(BenchServe, MeasuresAServerAndProvesWhatASecondQuestionSkips) {
  ServerProcess server({"--quiet", "--parallel", "4", "--threads", "2"});
  const TempFolder temp;
  const Outcome outcome = run_vl2({"bench-serve",
                                   "--url",
                                   server.url() + "/v1",
                                   "--streams",
                                   "1,3",
                                   "--max-tokens",
                                   "8",
                                   "--repeats",
                                   "1",
                                   "--picture",
                                   "154x154",
                                   "--large-picture",
                                   "800x800",
                                   "--beside",
                                   "2",
                                   "--prompt-tokens",
                                   "600",
                                   "--json",
                                   "--save",
                                   (temp / "saved.json").string()});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  EXPECT_EQ(json::parse(read_file(temp / "saved.json")), report);
  ASSERT_EQ(report["streams"].size(), 2u);
  for (const json& r : report["streams"]) {
    EXPECT_GT(r["tokens_per_s"]["median"], 0);
    EXPECT_EQ(r["first_token_ms"]["count"], r["streams"]);
    EXPECT_LE(r["between_tokens_ms"]["median"], r["between_tokens_ms"]["p95"]);
  }
  ASSERT_EQ(report["beside"].size(), 2u);
  EXPECT_EQ(report["beside"][0]["tiles"], 10);
  EXPECT_EQ(report["beside"][1]["tiles"], 0);
  EXPECT_NEAR(report["beside"][1]["prompt_tokens"].get<double>(), 600, 60);
  for (const json& r : report["beside"]) EXPECT_GT(r["between_tokens_ms"]["count"], 0);
  ASSERT_EQ(report["second"].size(), 1u);
  const json& second = report["second"][0];
  EXPECT_EQ(second["tiles"], 10);
  EXPECT_EQ(second["tiles_encoded"], 0);
  EXPECT_EQ(second["prefix_cache_hits"], second["cached_tokens"]);
  EXPECT_EQ(second["prompt_tokens_run"].get<int>(),
            second["prompt_tokens"].get<int>() - second["cached_tokens"].get<int>());
  EXPECT_LT(second["prompt_tokens_run"], 64);
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
}

TEST(BenchServe, SaysWhatIsWrong) {
  expect_failure(run_vl2({"bench-serve", "--url", "http://127.0.0.1:1"}), "bench-serve",
                 {"cannot reach http://127.0.0.1:1", "--url"});
  expect_failure(run_vl2({"bench-serve", "--url", "https://127.0.0.1"}), "bench-serve", {"TLS"});
  ServerProcess server({"--quiet", "--api-key", "right"});
  expect_failure(run_vl2({"bench-serve", "--url", server.url(), "--api-key", "wrong"}), "bench-serve", {"401"});
  EXPECT_EQ(run_vl2({"bench-serve", "--picture", "large"}).exit_code, 2);
}

}  // namespace
}  // namespace vl2::cli_test

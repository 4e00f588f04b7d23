#include <gtest/gtest.h>

#include "apps/cli/bench_run.h"

namespace vl2::cli {
namespace {

BenchResult decode_result(int64_t batch, const std::vector<double>& seconds) {
  BenchResult result;
  result.work = "decode";
  result.batch = batch;
  result.rows = static_cast<double>(batch);
  result.bytes = 1e9;
  result.flops = 1e9;
  result.unit = "vector";
  for (const double s : seconds) {
    BenchRepeat& repeat = result.repeats.emplace_back();
    repeat.seconds = s;
    repeat.before = repeat.after = {10, {{"vector", 1}, {"narrow", 4}}};
  }
  return result;
}

TEST(BenchFinish, EveryRepeatIsDividedByItsOwnBetterLimit) {
  BenchReport report;
  BenchResult result = decode_result(1, {0.2, 0.1, 0.4});
  result.repeats[0].before.read_gbps = 5;  // a neighbour came and went
  result.repeats[1].after.read_gbps = 20;
  report.results.push_back(result);
  finish_report(report);
  const BenchResult& r = report.results[0];
  EXPECT_EQ(r.limit, "read");
  EXPECT_DOUBLE_EQ(r.repeats[0].floor_s, 0.1);
  EXPECT_DOUBLE_EQ(r.repeats[1].floor_s, 0.05);
  EXPECT_DOUBLE_EQ(r.repeats[0].share, 0.5);
  EXPECT_DOUBLE_EQ(r.repeats[1].share, 0.5);
  EXPECT_DOUBLE_EQ(r.repeats[2].share, 0.25);
  EXPECT_DOUBLE_EQ(r.share.median, 0.5);
  EXPECT_DOUBLE_EQ(r.share.min, 0.25);
  EXPECT_DOUBLE_EQ(r.time.median, 0.2);
  EXPECT_DOUBLE_EQ(report.read_gbps.max, 20);
  EXPECT_DOUBLE_EQ(report.read_gbps.min, 10);
}

TEST(BenchFinish, TheFloorIsTheLargerOfArithmeticAndBytes) {
  BenchReport report;
  BenchResult result = decode_result(1, {1.0});
  result.flops = 0.5e12;
  report.results.push_back(result);
  finish_report(report);
  EXPECT_EQ(report.results[0].limit, "vector");
  EXPECT_DOUBLE_EQ(report.results[0].floor_s, 0.5);
}

TEST(BenchFinish, ABatchIsComparedWithOneSequenceAfterTheSameContext) {
  BenchReport report;
  report.results = {decode_result(1, {0.1}), decode_result(8, {0.2}), decode_result(1, {0.4}), decode_result(8, {0.8})};
  report.results[2].context = report.results[3].context = 1024;
  finish_report(report);
  EXPECT_DOUBLE_EQ(report.results[0].speed_up, 1);
  EXPECT_DOUBLE_EQ(report.results[1].per_s(), 40);
  EXPECT_DOUBLE_EQ(report.results[1].speed_up, 4);
  EXPECT_DOUBLE_EQ(report.results[3].speed_up, 4);
}

TEST(BenchFinish, AMedianOfAnEvenNumberLiesBetweenTheTwoInTheMiddle) {
  const Spread spread = spread_of({4, 1, 3, 2});
  EXPECT_DOUBLE_EQ(spread.median, 2.5);
  EXPECT_DOUBLE_EQ(spread.min, 1);
  EXPECT_DOUBLE_EQ(spread.max, 4);
}

TEST(BenchFinish, AnOperationIsDividedByTheUnitThatRunsIt) {
  const auto row = [](const char* op, double flops, double bytes) {
    OpRow result;
    result.op = op;
    result.seconds = 1;
    result.work.flops = flops;
    result.work.weight_bytes = bytes;
    return result;
  };
  std::vector<OpRow> rows = {row("linear", 2e12, 1e9), row("full_attention", 0.5e12, 1e9), row("linear_add", 1e9, 5e9),
                             row("cached_attention", 0.25e12, 1e9)};
  finish_ops(rows, {10, {{"wide", 1}, {"half", 2}, {"narrow", 4}}}, "narrow", "wide", "half");
  EXPECT_EQ(rows[0].limit, "narrow");
  EXPECT_DOUBLE_EQ(rows[0].share, 0.5);
  EXPECT_EQ(rows[1].limit, "half");
  EXPECT_DOUBLE_EQ(rows[1].share, 0.25);
  EXPECT_EQ(rows[2].limit, "read");
  EXPECT_DOUBLE_EQ(rows[2].share, 0.5);
  EXPECT_DOUBLE_EQ(rows[2].part, 1.0 / 4);
  EXPECT_EQ(rows[3].limit, "wide");
  EXPECT_DOUBLE_EQ(rows[3].share, 0.25);
}

}  // namespace
}  // namespace vl2::cli

// What follows from a report's measurements.
#include <algorithm>

#include "apps/cli/bench_run.h"

namespace vl2::cli {

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  const double median = n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  return {median, values.front(), values.back()};
}

MachineLimits better_of(const MachineLimits& a, const MachineLimits& b) {
  MachineLimits best = a;
  best.read_gbps = std::max(a.read_gbps, b.read_gbps);
  for (const auto& [unit, tflops] : b.tflops) best.tflops[unit] = std::max(best.tflops[unit], tflops);
  return best;
}

namespace {

void finish_result(BenchResult& result) {
  std::vector<double> times, shares, floors;
  double compute_sum = 0, read_sum = 0;
  for (BenchRepeat& repeat : result.repeats) {
    times.push_back(repeat.seconds);
    if (result.unit.empty()) continue;
    const MachineLimits limits = better_of(repeat.before, repeat.after);
    const double compute = result.flops / (limits.tflops.at(result.unit) * 1e12);
    const double read = result.bytes / (limits.read_gbps * 1e9);
    repeat.floor_s = std::max(compute, read);
    repeat.share = repeat.floor_s / repeat.seconds;
    floors.push_back(repeat.floor_s);
    shares.push_back(repeat.share);
    compute_sum += compute;
    read_sum += read;
  }
  result.time = spread_of(times);
  result.share = spread_of(shares);
  result.floor_s = spread_of(floors).median;
  if (!result.unit.empty()) result.limit = compute_sum > read_sum ? result.unit : "read";
}

}  // namespace

void finish_report(BenchReport& report) {
  std::vector<double> reads;
  std::map<std::string, std::vector<double>> rates;
  for (BenchResult& result : report.results) {
    finish_result(result);
    for (const BenchRepeat& repeat : result.repeats) {
      const MachineLimits limits = better_of(repeat.before, repeat.after);
      if (limits.read_gbps > 0) reads.push_back(limits.read_gbps);
      for (const auto& [unit, tflops] : limits.tflops) rates[unit].push_back(tflops);
    }
  }
  report.read_gbps = spread_of(reads);
  for (const auto& [unit, values] : rates) report.tflops[unit] = spread_of(values);
  for (BenchResult& result : report.results) {
    if (result.work != "decode") continue;
    for (const BenchResult& one : report.results)
      if (one.work == "decode" && one.context == result.context && one.batch == 1)
        result.speed_up = result.per_s() / one.per_s();
  }
}

}  // namespace vl2::cli

// What `vl2 bench` prints, for programs and for people.
#include <nlohmann/json.hpp>

#include "apps/cli/bench_run.h"
#include "engine/runtime/memory_plan.h"

namespace vl2::cli {

std::string bench_json(const BenchReport& report) {
  nlohmann::ordered_json limits = {{"read_gbps", report.limits.read_gbps}};
  for (const auto& [unit, tflops] : report.limits.tflops) limits[unit + "_tflops"] = tflops;
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const BenchResult& r : report.results) {
    nlohmann::ordered_json entry = {{"work", r.work}, {"preset", report.subject}, {"format", "bf16"}};
    entry["layers"] = report.layers;
    entry[r.work == "vision" ? "tiles" : "tokens"] = r.count;
    if (r.work == "decode") entry["context"] = r.context;
    entry["median_s"] = r.median_s;
    entry["min_s"] = r.min_s;
    entry["max_s"] = r.max_s;
    entry["per_s"] = r.per_s;
    entry[r.limit == "read" ? "bytes" : "flops"] = r.limit == "read" ? r.bytes : r.flops;
    entry["limit"] = r.limit;
    entry["floor_s"] = r.floor_s;
    entry["share"] = r.share;
    results.push_back(std::move(entry));
  }
  const nlohmann::ordered_json document = {
      {"runs_on", report.description},           {"repeats", report.repeats}, {"weight_bytes", report.weight_bytes},
      {"peak_rss_bytes", report.peak_rss_bytes}, {"limits", limits},          {"results", results}};
  return document.dump(2) + "\n";
}

std::string bench_text(const BenchReport& report) {
  std::string text = fmt::format("{} ({} layers, bf16, {} of weights) on {}; medians of {} repeats\n", report.subject,
                                 report.layers, format_bytes(report.weight_bytes), report.description, report.repeats);
  text += fmt::format("limits: memory read {:.1f} GB/s", report.limits.read_gbps);
  for (const auto& [unit, tflops] : report.limits.tflops) text += fmt::format(", {} {:.3f} TFLOP/s", unit, tflops);
  text += fmt::format("\n\n{:<24} {:>11} {:>23} {:>17} {:>11}  {}\n", "work", "median", "(min - max)", "rate", "floor",
                      "share of");
  for (const BenchResult& r : report.results) {
    const std::string what = r.work == "decode"
                                 ? fmt::format("decode after {} tokens", r.context)
                                 : fmt::format("{} {} {}", r.work, r.count, r.work == "vision" ? "tiles" : "tokens");
    text += fmt::format("{:<24} {:>9.4f} s {:>23} {:>8.2f} {:<8} {:>9.4f} s  {:.2f} {}\n", what, r.median_s,
                        fmt::format("({:.4f} - {:.4f})", r.min_s, r.max_s), r.per_s,
                        r.work == "vision" ? "tiles/s" : "tokens/s", r.floor_s, r.share, r.limit);
  }
  for (const BenchResult& r : report.results)
    if (r.share > 1)
      text += fmt::format("\n{}: faster than memory, because these weights fit the processor's caches.\n", r.work);
  return text;
}

}  // namespace vl2::cli

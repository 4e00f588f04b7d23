// What `vl2 bench` prints, for programs and for people.
#include <nlohmann/json.hpp>

#include "apps/cli/bench_text.h"
#include "engine/runtime/memory_plan.h"

namespace vl2::cli {
namespace {

using Json = nlohmann::ordered_json;

Json limits_json(const MachineLimits& limits) {
  Json result = {{"read_gbps", limits.read_gbps}};
  for (const auto& [unit, tflops] : limits.tflops) result[unit + "_tflops"] = tflops;
  return result;
}

Json ops_json(const std::vector<OpRow>& rows) {
  Json result = Json::array();
  for (const OpRow& row : rows)
    result.push_back({{"op", row.op},
                      {"calls", row.calls},
                      {"seconds", row.seconds},
                      {"part", row.part},
                      {"flops", row.work.flops},
                      {"weight_bytes", row.work.weight_bytes},
                      {"cache_bytes", row.work.cache_bytes},
                      {"activation_bytes", row.work.activation_bytes},
                      {"limit", row.limit},
                      {"share", row.share}});
  return result;
}

Json result_json(const BenchReport& report, const BenchResult& r) {
  Json entry = {{"work", r.work}, {"preset", report.subject}, {"format", report.format}, {"layers", report.layers}};
  if (r.work != "load") entry[r.work == "vision" ? "tiles" : "tokens"] = r.count;
  if (r.work == "decode") {
    entry["context"] = r.context;
    entry["batch"] = r.batch;
  }
  if (r.experts > 0) entry["experts"] = r.experts;
  entry["median_s"] = r.time.median;
  entry["min_s"] = r.time.min;
  entry["max_s"] = r.time.max;
  entry["per_s"] = r.per_s();
  if (r.speed_up > 0) entry["speed_up"] = r.speed_up;
  Json repeats = Json::array();
  for (const BenchRepeat& repeat : r.repeats) {
    Json turn = {{"seconds", repeat.seconds}};
    if (!r.limit.empty()) {
      turn["before"] = limits_json(repeat.before);
      turn["after"] = limits_json(repeat.after);
      turn["floor_s"] = repeat.floor_s;
      turn["share"] = repeat.share;
    }
    repeats.push_back(std::move(turn));
  }
  if (!r.limit.empty()) {
    entry["flops"] = r.flops;
    entry["bytes"] = r.bytes;
    entry["unit"] = r.unit;
    entry["limit"] = r.limit;
    entry["floor_s"] = r.floor_s;
    entry["share"] = r.share.median;
    entry["share_min"] = r.share.min;
    entry["share_max"] = r.share.max;
  }
  entry["repeats"] = std::move(repeats);
  if (!r.ops.empty()) entry["ops"] = ops_json(r.ops);
  return entry;
}

std::string spread_text(const Spread& s, const char* unit) {
  return fmt::format("{} {} ({} - {})", digits(s.median), unit, digits(s.min), digits(s.max));
}

// "avx512_f32" is "f32" here: the line of limits says which.
std::string short_unit(const std::string& unit) { return unit.substr(unit.rfind('_') + 1); }

void add_ops(std::string& text, const BenchResult& r) {
  text += fmt::format("\n{}, one turn, operation by operation\n", what_was_done(r));
  text += fmt::format("  {:<20} {:>7} {:>10} {:>6} {:>10} {:>10}  {}\n", "operation", "calls", "ms", "part", "MB",
                      "MFLOP", "share of");
  for (const OpRow& row : r.ops)
    text += fmt::format("  {:<20} {:>7} {:>10.3f} {:>4.0f} % {:>10.1f} {:>10.1f}  {:.2f} {}\n", row.op, row.calls,
                        row.seconds * 1e3, row.part * 100, row.work.bytes() / 1e6, row.work.flops / 1e6, row.share,
                        short_unit(row.limit));
}

}  // namespace

std::string bench_json(const BenchReport& report) {
  Json limits = {{"read_gbps", report.read_gbps.median}};
  for (const auto& [unit, tflops] : report.tflops) limits[unit + "_tflops"] = tflops.median;
  Json results = Json::array();
  for (const BenchResult& r : report.results) results.push_back(result_json(report, r));
  const Json machine = {{"processor", report.processor}, {"kernels", report.kernels}, {"threads", report.threads}};
  const Json document = {{"runs_on", report.description},
                         {"machine", machine},
                         {"subject", report.subject},
                         {"layers", report.layers},
                         {"format", report.format},
                         {"repeats", report.repeats},
                         {"weight_bytes", report.weight_bytes},
                         {"peak_rss_bytes", report.peak_rss_bytes},
                         {"limits", limits},
                         {"results", results}};
  return document.dump(2) + "\n";
}

std::string bench_text(const BenchReport& report) {
  std::string text =
      fmt::format("{}: {} layers, {}, {} of weights; medians (least - greatest) of {} repeats\n", report.subject,
                  report.layers, report.format, format_bytes(report.weight_bytes), report.repeats);
  text += fmt::format("{}; {}\n", report.processor, report.description);
  if (report.read_gbps.median > 0) text += fmt::format("limits: read {}\n", spread_text(report.read_gbps, "GB/s"));
  for (const auto& [unit, tflops] : report.tflops)
    text += fmt::format("        {} {}\n", unit, spread_text(tflops, "TFLOP/s"));
  text += fmt::format("\n{:<26} {:>24}", "work", "time");
  const bool loaded = report.tflops.empty();
  text += loaded ? "\n" : fmt::format(" {:>15} {:>7}  {}\n", "rate", "speed", "share of the limit");
  for (const BenchResult& r : report.results) {
    text += fmt::format("{:<26} {:>24}", what_was_done(r), time_text(r.time));
    if (!r.limit.empty())
      text += fmt::format(" {:>7} {:<7} {:>7}  {:.2f} ({:.2f} - {:.2f}) {}", digits(r.per_s()),
                          r.work == "vision" ? "tiles/s" : "tok/s",
                          r.batch > 1 && r.speed_up > 0 ? fmt::format("x {:.2f}", r.speed_up) : "", r.share.median,
                          r.share.min, r.share.max, short_unit(r.limit));
    text += "\n";
  }
  if (!report.counts.empty()) text += report.counts + "\n";
  for (const BenchResult& r : report.results)
    if (!r.ops.empty()) add_ops(text, r);
  for (const BenchResult& r : report.results) {
    if (r.limit != "read" || r.share.median <= 1) continue;
    text += "\nA share above 1 of reading: these weights fit the processor's caches.\n";
    break;
  }
  return text;
}

}  // namespace vl2::cli

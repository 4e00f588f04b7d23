// What `vl2 bench-serve` prints, for programs and for people.
#include <nlohmann/json.hpp>

#include "apps/cli/bench_serve.h"
#include "apps/cli/bench_text.h"

namespace vl2::cli {
namespace {

using Json = nlohmann::ordered_json;

Json spread_json(const Spread& s) { return {{"median", s.median}, {"min", s.min}, {"max", s.max}}; }
Json quantiles_json(const Quantiles& q) {
  return {{"median", q.median}, {"p95", q.p95}, {"max", q.max}, {"count", q.count}};
}

std::string spread_text(const Spread& s) {
  return fmt::format("{} ({} - {})", digits(s.median), digits(s.min), digits(s.max));
}
std::string quantiles_text(const Quantiles& q) {
  return fmt::format("{} / {} / {}", digits(q.median), digits(q.p95), digits(q.max));
}

Json streams_json(const StreamsResult& r) {
  Json entry = {{"streams", r.streams},
                {"tokens_per_s", spread_json(r.tokens_per_s)},
                {"per_stream_tokens_per_s", r.per_stream},
                {"first_token_ms", quantiles_json(r.first_token_ms)},
                {"between_tokens_ms", quantiles_json(r.gap_ms)},
                {"drafted_tokens", r.drafted},
                {"accepted_tokens", r.accepted}};
  if (r.speed_up > 0) entry["speed_up"] = r.speed_up;
  return entry;
}

Json beside_json(const BesideResult& r) {
  return {{"prompt", r.prompt},
          {"streams", r.streams},
          {"prompt_tokens", r.prompt_tokens},
          {"tiles", r.tiles},
          {"piece_ms", spread_json(r.piece_ms)},
          {"longest_pause_ms", spread_json(r.pause_ms)},
          {"between_tokens_without_ms", quantiles_json(r.gap_without_ms)},
          {"between_tokens_ms", quantiles_json(r.gap_ms)},
          {"largest_gap_ms", spread_json(r.largest_gap_ms)},
          {"ratio", spread_json(r.ratio)},
          {"largest_gap_ratio", spread_json(r.gap_ratio)},
          {"first_token_alone_ms", spread_json(r.first_token_alone_ms)},
          {"first_token_ms", spread_json(r.first_token_ms)}};
}

Json second_json(const SecondResult& r) {
  return {{"prompt_tokens", r.prompt_tokens},
          {"cached_tokens", r.cached_tokens},
          {"tiles", r.tiles},
          {"first_ms", spread_json(r.first_ms)},
          {"second_ms", spread_json(r.second_ms)},
          {"ratio", spread_json(r.ratio)},
          {"tiles_encoded", r.tiles_encoded},
          {"prefix_cache_queries", r.prefix_queries},
          {"prefix_cache_hits", r.prefix_hits},
          {"prompt_tokens_run", r.prompt_tokens_run}};
}

std::string beside_text(const BesideResult& r) {
  const std::string what = r.tiles > 0 ? fmt::format("{} tiles, {} tokens", r.tiles, r.prompt_tokens)
                                       : fmt::format("{} tokens of text", r.prompt_tokens);
  std::string text = fmt::format("\n{} beside {} streams\n", what, r.streams);
  text += fmt::format("  between tokens, ms       {} without; {} while it is read\n", quantiles_text(r.gap_without_ms),
                      quantiles_text(r.gap_ms));
  text += fmt::format("  its longest piece, ms    {}\n", spread_text(r.piece_ms));
  text += fmt::format("  longest pause, ms        {} in the server; {} at the clients\n", spread_text(r.pause_ms),
                      spread_text(r.largest_gap_ms));
  text += fmt::format("  pause / piece and token  {} in the server; {} at the clients\n", spread_text(r.ratio),
                      spread_text(r.gap_ratio));
  text += fmt::format("  its first token, ms      {} alone; {} beside them\n", spread_text(r.first_token_alone_ms),
                      spread_text(r.first_token_ms));
  return text;
}

std::string second_text(const SecondResult& r) {
  std::string text = fmt::format("\na second question on a picture of {} tiles, {} tokens\n", r.tiles, r.prompt_tokens);
  text += fmt::format("  first token, ms          {}; of the second question {}\n", spread_text(r.first_ms),
                      spread_text(r.second_ms));
  text += fmt::format("  second / first           {}\n",
                      fmt::format("{:.3f} ({:.3f} - {:.3f})", r.ratio.median, r.ratio.min, r.ratio.max));
  text += fmt::format("  by the server's count    {} tiles encoded, {} of {} prompt tokens found, {} run\n",
                      r.tiles_encoded, r.prefix_hits, r.prefix_queries, r.prompt_tokens_run);
  return text;
}

}  // namespace

std::string serve_bench_json(const ServeBenchReport& report) {
  const ServeBenchOptions& o = report.options;
  Json out = {{"url", o.server.address.text()},
              {"model", report.model},
              {"load_average", {report.load_before, report.load_after}},
              {"max_tokens", o.max_tokens},
              {"repeats", o.repeats},
              {"picture", {o.picture.width, o.picture.height}},
              {"large_picture", {o.large.width, o.large.height}},
              {"fresh_pictures", o.fresh},
              {"temperature", o.temperature},
              {"seed", o.seed}};
  for (const char* name : {"streams", "beside", "second"}) out[name] = Json::array();
  for (const StreamsResult& r : report.streams) out["streams"].push_back(streams_json(r));
  for (const BesideResult& r : report.beside) out["beside"].push_back(beside_json(r));
  for (const SecondResult& r : report.second) out["second"].push_back(second_json(r));
  return out.dump(2) + "\n";
}

std::string serve_bench_text(const ServeBenchReport& report) {
  const ServeBenchOptions& o = report.options;
  std::string text = fmt::format("{} at {}; load of this machine {} before, {} after\n", report.model,
                                 o.server.address.text(), digits(report.load_before), digits(report.load_after));
  if (!report.streams.empty()) {
    text += fmt::format("\nanswers of {} tokens about {} picture of {}x{}, {} repeats\n", o.max_tokens,
                        o.fresh ? "each its own" : "the same", o.picture.width, o.picture.height, o.repeats);
    text += fmt::format("{:>7}  {:<24} {:>6}  {:>9}  {:<24} {}\n", "streams", "tokens/s", "speed", "of each",
                        "first token, ms *", "between tokens, ms *");
    for (const StreamsResult& r : report.streams)
      text += fmt::format("{:>7}  {:<24} {:>6}  {:>9}  {:<24} {}\n", r.streams, spread_text(r.tokens_per_s),
                          r.speed_up > 0 ? "x " + digits(r.speed_up) : "", digits(r.per_stream),
                          quantiles_text(r.first_token_ms), quantiles_text(r.gap_ms));
    text += "* median / 95th percentile / greatest\n";
  }
  for (const BesideResult& r : report.beside) text += beside_text(r);
  for (const SecondResult& r : report.second) text += second_text(r);
  return text;
}

}  // namespace vl2::cli

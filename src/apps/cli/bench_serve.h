// Load on a running server, and what it makes of it: tokens a second of many streams, what a long prompt does to the
// answers beside it, what a second question on a picture saves.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "apps/cli/bench_run.h"
#include "apps/cli/serve_ask.h"

namespace vl2::cli {

struct ServeBenchOptions {
  Server server;
  std::vector<std::string> work = {"streams", "beside", "second"};
  std::vector<int64_t> streams = {1, 2, 4, 8, 16};
  int64_t max_tokens = 64;         // of an answer
  int64_t repeats = 3;             // after one turn that is not measured
  ImageSize picture = {640, 480};  // streams
  ImageSize large = {1152, 1152};  // beside, second: nine tiles and the global view
  bool fresh = false;              // streams: a new picture with each question, not the same one
  int64_t beside = 4;              // streams that answer while a long prompt comes
  int64_t prompt_tokens = 2048;    // of the long text
  double temperature = 1;
  uint64_t seed = 0;  // a server remembers what it has seen: another one for each run
};

// Median, 95th percentile and greatest, of `count`.
struct Quantiles {
  double median = 0, p95 = 0, max = 0;
  int64_t count = 0;
};
Quantiles quantiles_of(std::vector<double> values);

// So many streams at a time.
struct StreamsResult {
  int64_t streams = 0;
  Spread tokens_per_s;    // of all together, from the first question to the last end
  double per_stream = 0;  // tokens a second of one stream behind its first token, median
  double speed_up = 0;    // beside one stream; 0: not in this run
  Quantiles first_token_ms, gap_ms;
  int64_t drafted = 0, accepted = 0;  // tokens, by the server's count
};

// A long prompt beside streams.
struct BesideResult {
  std::string prompt;  // "picture" or "text"
  int64_t streams = 0, prompt_tokens = 0, tiles = 0;
  // Of each repeat: the longest piece it was read in beside the streams, of tiles or of tokens, and the longest pause
  // of a stream, as the engine's clock has them; and the largest gap at the clients. 0 where the server does not tell.
  Spread piece_ms, pause_ms, largest_gap_ms;
  Spread ratio, gap_ratio;           // pause and gap beside the piece and the median gap without it
  Quantiles gap_without_ms, gap_ms;  // at the clients: before it came, and while it was read
  Spread first_token_alone_ms, first_token_ms;
};

// Two questions on one picture.
struct SecondResult {
  int64_t prompt_tokens = 0, cached_tokens = 0, tiles = 0;  // cached: of the second
  Spread first_ms, second_ms, ratio;                        // times to the first token
  // Counters of the server over the second questions alone.
  double tiles_encoded = 0, prefix_queries = 0, prefix_hits = 0, prompt_tokens_run = 0;
};

struct ServeBenchReport {
  ServeBenchOptions options;
  std::string model;
  double load_before = 0, load_after = 0;  // of this machine, over a minute
  std::vector<StreamsResult> streams;
  std::vector<BesideResult> beside;
  std::vector<SecondResult> second;
};

// Errors: kIo, kInvalidArgument of the server.
ServeBenchReport run_serve_bench(const ServeBenchOptions& options, const BenchProgress& progress);

std::string serve_bench_json(const ServeBenchReport& report);
std::string serve_bench_text(const ServeBenchReport& report);

}  // namespace vl2::cli

// Times the model's work and puts the machine's limits beside it: every repeat beside limits measured right before and
// right after it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "apps/cli/bench_ops.h"
#include "core/model_spec/format_plan.h"
#include "engine/backends.h"

namespace vl2::cli {

struct BenchOptions {
  // Or "load", on its own: from nothing to the first token of a one-token prompt, the folder opened anew in this
  // process.
  std::vector<std::string> work = {"vision", "prefill", "decode"};
  std::string preset;           // "tiny", "small", "base": random weights; empty: `model`
  std::filesystem::path model;  // a folder
  ModelFormat format = ModelFormat::kBf16;
  int64_t layers = 0;  // of the language model; 0: all
  std::string backend = "auto";
  BackendOptions compute;
  int64_t tiles = 10;                    // vision: of one picture, the global view included
  std::vector<int64_t> tokens = {1024};  // prefill: a result for each length
  std::vector<int64_t> context = {0};    // decode: tokens each sequence has in the cache; a result for each
  std::vector<int64_t> batch = {1};      // decode: sequences that answer together; a result for each
  int64_t generated = 32;                // decode: steps of one repeat
  int repeats = 5;
  bool ops = false;  // one more turn of each work, operation by operation
};

// One measured turn, with the better of the limits measured before and after it.
struct BenchRepeat {
  double seconds = 0;  // decode: of one step
  MachineLimits before, after;
  double floor_s = 0;  // the time the work takes at the limits
  double share = 0;    // floor_s / seconds
};

// Median, least and greatest.
struct Spread {
  double median = 0, min = 0, max = 0;
};
Spread spread_of(std::vector<double> values);

// Of every limit the better of two measurements, so that no share is flattered by a neighbour who came in between.
MachineLimits better_of(const MachineLimits& a, const MachineLimits& b);

struct BenchResult {
  std::string work;
  int64_t count = 0;    // tiles, prompt tokens, or steps of one repeat
  int64_t context = 0;  // decode
  int64_t batch = 1;    // decode
  double rows = 1;      // tiles or tokens that `seconds` of a repeat are for
  double flops = 0;     // what `seconds` of a repeat have to do and to move at least
  double bytes = 0;
  double experts = 0;   // distinct routed experts a layer of a step used, as counted; 0: none
  std::string unit;     // what multiplies: "avx512_f32"
  std::string limit;    // which one the floor comes from: `unit` or "read"; empty: no floor (load)
  double speed_up = 0;  // decode: tokens a second beside a batch of 1 after the same context; 0: not in this run
  std::vector<BenchRepeat> repeats;
  std::vector<OpRow> ops;  // of one more turn
  Spread time, share;
  double floor_s = 0;  // median
  double per_s() const { return rows / time.median; }
};

struct BenchReport {
  std::string subject;      // "tiny", or the model's folder
  std::string description;  // what ran: backend, kernels, arithmetic, threads
  std::string counts;       // what the backend tells of the run afterwards, for people
  std::string format;
  std::string processor, kernels;
  int threads = 0;
  int64_t layers = 0;
  Spread read_gbps;
  std::map<std::string, Spread> tflops;
  std::vector<BenchResult> results;
  int repeats = 0;
  int64_t weight_bytes = 0;    // by the plan
  int64_t peak_rss_bytes = 0;  // of the process, the limits' 1 GiB buffer included
};

// progress(what, done, total) is called as the work goes on. Errors: kOutOfMemory before anything is allocated,
// kInvalidArgument for impossible options.
using BenchProgress = std::function<void(const std::string& work, int64_t done, int64_t total)>;
BenchReport run_bench(const BenchOptions& options, const BenchProgress& progress);

// Fills what follows from the repeats: floors, shares, spreads, limits, speed-ups.
void finish_report(BenchReport& report);

std::string bench_json(const BenchReport& report);
std::string bench_text(const BenchReport& report);

}  // namespace vl2::cli

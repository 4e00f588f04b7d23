// Times the model's work and puts the machine's limit beside it: floor time / measured time, both from the same run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "engine/backends.h"

namespace vl2::cli {

struct BenchOptions {
  std::vector<std::string> work = {"vision", "prefill", "decode"};
  std::string preset;           // "tiny", "small", "base": random weights; empty: `model`
  std::filesystem::path model;  // a folder
  int64_t layers = 0;           // of the language model; 0: all
  std::string backend = "auto";
  BackendOptions compute;
  int64_t tiles = 10;      // vision: of one picture, the global view included
  int64_t tokens = 1024;   // prefill
  int64_t context = 0;     // decode: tokens already cached
  int64_t generated = 32;  // decode: tokens of one repeat
  int repeats = 5;
};

struct BenchResult {
  std::string work;
  int64_t count = 0;                          // tiles, prompt tokens, or generated tokens of one repeat
  int64_t context = 0;                        // decode
  double median_s = 0, min_s = 0, max_s = 0;  // of one repeat; decode: of one token
  double per_s = 0;                           // tiles or tokens a second at the median
  double flops = 0;                           // vision and prefill: what the floor counts
  double bytes = 0;                           // decode: weights and cache one token reads
  double floor_s = 0;
  double share = 0;   // floor_s / median_s
  std::string limit;  // "avx512_f32", "read": which one the floor uses
};

struct BenchReport {
  std::string subject;      // "tiny", or the model's folder
  std::string description;  // what ran: backend, kernels, arithmetic, threads
  int64_t layers = 0;
  MachineLimits limits;  // medians over the repeats
  std::vector<BenchResult> results;
  int repeats = 0;
  int64_t weight_bytes = 0;    // by the plan
  int64_t peak_rss_bytes = 0;  // of the process, the limits' 1 GiB buffer included
};

// progress(what, done, total) is called as the work goes on. Errors: kOutOfMemory before anything is allocated,
// kInvalidArgument for impossible options.
using BenchProgress = std::function<void(const std::string& work, int64_t done, int64_t total)>;
BenchReport run_bench(const BenchOptions& options, const BenchProgress& progress);

std::string bench_json(const BenchReport& report);
std::string bench_text(const BenchReport& report);

}  // namespace vl2::cli

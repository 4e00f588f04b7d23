// Two saved reports of `vl2 bench --json` side by side: what became faster, and whether that is more than noise.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "apps/cli/bench_run.h"

namespace vl2::cli {

// What a comparison needs of a report; the repeats' limits and operations are not read back.
struct SavedBench {
  std::string file;
  BenchReport report;
};

// kNotFound, kCorrupt: no report, or one of a version that said less.
SavedBench read_bench(const std::filesystem::path& file);

struct BenchChange {
  const BenchResult* a = nullptr;
  const BenchResult* b = nullptr;
  double ratio() const { return a->time.median / b->time.median; }  // above 1: b is faster
  // Every repeat of one was faster than every repeat of the other.
  bool differs() const { return a->time.max < b->time.min || b->time.max < a->time.min; }
};

// Results of the same work and amount, in a's order. Keeps pointers into both. kInvalidArgument: of another model or
// another machine, unless `force`; or nothing in common.
std::vector<BenchChange> compare_bench(const SavedBench& a, const SavedBench& b, bool force);

std::string compare_text(const SavedBench& a, const SavedBench& b, const std::vector<BenchChange>& changes);
std::string compare_json(const SavedBench& a, const SavedBench& b, const std::vector<BenchChange>& changes);

}  // namespace vl2::cli

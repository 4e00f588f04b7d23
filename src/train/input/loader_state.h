// Where a Loader stands, to be kept in a checkpoint, and what it left out so far. Plain data: any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "train/input/mixture.h"
#include "train/input/sample.h"

namespace vl2::train {

// Records that were not learnt from, each counted once: in its source's first epoch.
struct InputReport {
  std::array<int64_t, kNumProblemKinds> counts{};  // by ProblemKind
  int64_t shortened = 0;                           // samples that lost turns or the end of their text
  std::vector<Problem> listed;                     // the first ones

  int64_t total() const;
  void add(const Problem& problem, size_t max_listed);
  std::string text() const;  // lines for people; empty when there is nothing to tell
  bool operator==(const InputReport&) const = default;
};

struct LoaderState {
  uint64_t seed = 0;
  int64_t batches = 0;               // handed out
  std::vector<int64_t> records;      // of each source
  std::vector<SourceState> sources;  // behind the last record drawn
  std::vector<Draw> waiting;         // drawn, but in no batch yet, oldest first
  InputReport report;
  bool operator==(const LoaderState&) const = default;
};

std::string to_json(const LoaderState& state);
// kCorrupt: not what to_json() writes. Whether it fits the data is for the Loader to say.
LoaderState parse_loader_state(std::string_view json, const std::string& where);

}  // namespace vl2::train

// Which record comes next: several sources mixed by tokens, each shuffled anew every epoch.
//
// The next record is of the source that is furthest behind its share: the one with the fewest tokens per weight so far.
// The order of an epoch is a permutation computed from (seed, source, epoch), so that a position says all: nothing is
// remembered but the counters of SourceState. Not thread-safe; plain numbers, no input or output.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace vl2::train {

// A pseudo-random permutation of 0 .. size - 1, without a table: a Feistel network over the next power of four, walked
// along its cycles until the value lies inside. Immutable; any thread.
class Permutation {
 public:
  Permutation(int64_t size, uint64_t key);
  int64_t operator()(int64_t i) const;  // 0 <= i < size

 private:
  uint64_t size_;
  uint64_t key_;
  int half_bits_ = 1;
};

struct MixtureSource {
  int64_t records = 0;
  double weight = 1;  // share of the tokens, relative to the other sources'
};

struct MixtureOptions {
  uint64_t seed = 0;
  bool shuffle = true;
  int64_t epochs = 0;  // how often each source is gone through; 0: forever
};

struct SourceState {
  int64_t epoch = 0;
  int64_t position = 0;  // the next record's, within the epoch
  int64_t tokens = 0;    // drawn since the beginning
  int64_t usable = 0;    // records drawn in this epoch that had tokens
  bool operator==(const SourceState&) const = default;
};

// One place in the sequence of a source.
struct Draw {
  int64_t source = 0;
  int64_t epoch = 0;
  int64_t position = 0;
  bool operator==(const Draw&) const = default;
};

class Mixture {
 public:
  // kInvalidArgument: no source; a weight that is not positive; a source without records.
  Mixture(std::vector<MixtureSource> sources, const MixtureOptions& options);

  // The source to draw from, or nullopt when all have been gone through.
  std::optional<int64_t> next_source() const;
  // The place `ahead` draws behind the next of a source, so that records can be prepared early; nullopt: beyond its
  // end.
  std::optional<Draw> peek(int64_t source, int64_t ahead = 0) const;
  int64_t record_of(const Draw& draw) const;  // index of the record in its source

  // Steps over the next record of the source, which had so many tokens: 0 for one that is not used. False: with this
  // an epoch ended in which no record was used, so that going on would never end.
  bool advance(int64_t source, int64_t tokens);

  int64_t num_sources() const { return static_cast<int64_t>(sources_.size()); }
  const std::vector<SourceState>& state() const { return state_; }
  // kInvalidArgument: of another number of sources, or places that these do not have.
  void restore(std::vector<SourceState> state);

 private:
  std::vector<MixtureSource> sources_;
  MixtureOptions options_;
  std::vector<SourceState> state_;
};

}  // namespace vl2::train

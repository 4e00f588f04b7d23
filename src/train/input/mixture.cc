#include "train/input/mixture.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vl2::train {

Permutation::Permutation(int64_t size, uint64_t key) : size_(static_cast<uint64_t>(size)), key_(splitmix64(key)) {
  VL2_CHECK(size > 0, "a permutation of {}", size);
  half_bits_ = std::max(1, (static_cast<int>(std::bit_width(size_ - 1)) + 1) / 2);
}

int64_t Permutation::operator()(int64_t i) const {
  VL2_CHECK(i >= 0 && static_cast<uint64_t>(i) < size_, "{} of {}", i, size_);
  constexpr uint64_t kRounds = 6;
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  auto value = static_cast<uint64_t>(i);
  do {
    uint64_t left = value >> half_bits_, right = value & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t mixed = splitmix64(splitmix64(key_ + round) ^ right) >> 32;
      left = std::exchange(right, (left ^ mixed) & mask);
    }
    value = left << half_bits_ | right;
  } while (value >= size_);
  return static_cast<int64_t>(value);
}

Mixture::Mixture(std::vector<MixtureSource> sources, const MixtureOptions& options)
    : sources_(std::move(sources)), options_(options), state_(sources_.size()) {
  if (sources_.empty()) fail(ErrorCode::kInvalidArgument, "no source to train on: give at least one");
  for (size_t i = 0; i < sources_.size(); ++i) {
    const MixtureSource& source = sources_[i];
    if (source.records < 1) fail(ErrorCode::kInvalidArgument, "source {} has no records: leave it out", i + 1);
    if (!std::isfinite(source.weight) || source.weight <= 0)
      fail(ErrorCode::kInvalidArgument, "source {} has the weight {}, expected a number above 0", i + 1, source.weight);
  }
  if (options_.epochs < 0)
    fail(ErrorCode::kInvalidArgument, "{} epochs, expected at least 1, or 0 for no end", options_.epochs);
}

std::optional<int64_t> Mixture::next_source() const {
  std::optional<int64_t> best;
  double least = 0;
  for (int64_t i = 0; i < num_sources(); ++i) {
    if (!peek(i)) continue;
    const auto s = static_cast<size_t>(i);
    const double drawn = static_cast<double>(state_[s].tokens) / sources_[s].weight;
    if (!best || drawn < least) {
      best = i;
      least = drawn;
    }
  }
  return best;
}

std::optional<Draw> Mixture::peek(int64_t source, int64_t ahead) const {
  const SourceState& state = state_.at(static_cast<size_t>(source));
  const int64_t records = sources_[static_cast<size_t>(source)].records, at = state.position + ahead;
  const Draw draw{source, state.epoch + at / records, at % records};
  if (options_.epochs > 0 && draw.epoch >= options_.epochs) return std::nullopt;
  return draw;
}

int64_t Mixture::record_of(const Draw& draw) const {
  if (!options_.shuffle) return draw.position;
  const uint64_t key = splitmix64(splitmix64(options_.seed) ^ static_cast<uint64_t>(draw.source)) ^
                       splitmix64(static_cast<uint64_t>(draw.epoch));
  return Permutation(sources_.at(static_cast<size_t>(draw.source)).records, key)(draw.position);
}

bool Mixture::advance(int64_t source, int64_t tokens) {
  SourceState& state = state_.at(static_cast<size_t>(source));
  state.tokens += tokens;
  state.usable += tokens > 0 ? 1 : 0;
  if (++state.position < sources_[static_cast<size_t>(source)].records) return true;
  state.position = 0;
  ++state.epoch;
  return std::exchange(state.usable, 0) > 0;
}

void Mixture::restore(std::vector<SourceState> state) {
  if (state.size() != sources_.size())
    fail(ErrorCode::kInvalidArgument,
         "the saved position is of {} sources, but there are {}: resume with the same ones", state.size(),
         sources_.size());
  for (size_t i = 0; i < state.size(); ++i) {
    const SourceState& s = state[i];
    if (s.epoch < 0 || s.position < 0 || s.position >= sources_[i].records || s.tokens < 0 || s.usable < 0 ||
        s.usable > s.position)
      fail(ErrorCode::kInvalidArgument,
           "source {} has {} records, but the saved position is {}: resume with the same file", i + 1,
           sources_[i].records, s.position);
  }
  state_ = std::move(state);
}

}  // namespace vl2::train

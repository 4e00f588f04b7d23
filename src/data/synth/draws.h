// Random choices of the synthetic sets: everything a picture or a question leaves to chance goes through one of these,
// one statement each, so that a seed gives the same record whatever the compiler's order of evaluation.
//
// One thread at a time; one stream a record.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "core/base/random.h"

namespace vl2::data::synth {

class Draws {
 public:
  explicit Draws(uint64_t seed) : random_(seed) {}

  uint64_t bits() { return random_.next(); }
  int64_t between(int64_t low, int64_t high) { return low + random_.below(high - low + 1); }  // both included
  double real(double low, double high) { return low + (high - low) * random_.uniform(); }
  bool chance(double p) { return random_.uniform() < p; }

  size_t index(size_t n) { return static_cast<size_t>(random_.below(static_cast<int64_t>(n))); }  // n > 0
  template <typename C>
  const auto& pick(const C& values) {
    return std::data(values)[index(std::size(values))];
  }

  // An index with these weights; their sum must be positive.
  template <typename C>
  size_t weighted(const C& weights) {
    double sum = 0;
    for (const double w : weights) sum += w;
    double at = random_.uniform() * sum;
    size_t last = 0, i = 0;
    for (const double w : weights) {
      if (w > 0) last = i;
      if (w > 0 && at < w) return i;
      at -= w;
      ++i;
    }
    return last;
  }

  template <typename T>
  void shuffle(std::vector<T>& values) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[index(i)]);
  }

 private:
  Random random_;
};

}  // namespace vl2::data::synth

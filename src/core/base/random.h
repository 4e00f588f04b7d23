// Small, seeded, portable random numbers: the same seed gives the same values on every machine.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

namespace vl2 {

constexpr uint64_t splitmix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

constexpr uint64_t fnv1a64(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

// Counter-based: next() walks splitmix64(seed + i).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(splitmix64(seed)) {}
  uint64_t next() { return splitmix64(state_ += 0x9e3779b97f4a7c15ull); }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }                     // [0, 1)
  float symmetric(float a = 1.0f) { return a * static_cast<float>(2.0 * uniform() - 1.0); }      // [-a, a)
  int64_t below(int64_t n) { return static_cast<int64_t>(uniform() * static_cast<double>(n)); }  // [0, n)
  float normal() {
    const double u = 1.0 - uniform();
    return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * uniform()));
  }

 private:
  uint64_t state_;
};

}  // namespace vl2

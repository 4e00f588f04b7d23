#include "train/input/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vl2::train {
namespace {

constexpr int64_t kRow = 4096;

using Row = std::vector<size_t>;

Row pack(std::vector<int64_t> lengths, int64_t max_length = 10) { return choose_pack(lengths, max_length); }

// Lengths as a mixed set has them: captions of one to ten tiles (210 + 1 + m 14 (n 14 + 1) tokens), documents,
// dialogues and text without pictures whose lengths are log-normal; what is over a row was cut to it.
int64_t mixed_length(Random& random) {
  const double kind = random.uniform();
  const auto text = [&](double median, double spread) {
    return static_cast<int64_t>(median * std::exp(spread * static_cast<double>(random.normal())));
  };
  const auto picture = [](int64_t wide, int64_t high) { return 211 + high * 14 * (wide * 14 + 1); };
  int64_t length = 0;
  if (kind < 0.35)
    length = picture(1 + random.below(2), 1 + random.below(2)) + text(60, 0.5);
  else if (kind < 0.6)
    length = picture(2, 2 + random.below(2)) + text(250, 0.8);
  else if (kind < 0.7)
    length = picture(3, 3) + text(400, 0.7);
  else if (kind < 0.85)
    length = text(350, 1.0);
  else
    length = text(1200, 0.9);
  return std::clamp<int64_t>(length, 8, kRow);
}

TEST(Packing, TheOldestOpensTheRowAndTheLongestThatFitFollow) {
  EXPECT_EQ(pack({}), Row{});
  EXPECT_EQ(pack({10, 1}), Row{0});
  EXPECT_EQ(pack({3, 8, 5, 2, 2}), (Row{0, 2, 3}));
  EXPECT_EQ(pack({3, 3, 3, 3}), (Row{0, 1, 2}));
  EXPECT_EQ(pack({1, 4, 9, 5}), (Row{0, 2}));
  EXPECT_THROW(pack({11}), Error);
  EXPECT_THROW(pack({0}), Error);
}

TEST(Packing, EverySampleGetsIntoOneRowWholeAndSoon) {
  Random random(1);
  std::vector<int64_t> waiting, ids;
  int64_t next = 0;
  std::vector<int64_t> placed;
  while (static_cast<int64_t>(placed.size()) < 5000) {
    while (waiting.size() < 64 && next < 5000) {
      waiting.push_back(mixed_length(random));
      ids.push_back(next++);
    }
    Row row = choose_pack(waiting, kRow);
    EXPECT_EQ(row.front(), 0u);
    int64_t tokens = 0;
    for (const size_t i : row) tokens += waiting[i];
    EXPECT_LE(tokens, kRow);
    std::sort(row.rbegin(), row.rend());
    for (const size_t i : row) {
      placed.push_back(ids[i]);
      waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(i));
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  std::sort(placed.begin(), placed.end());
  for (int64_t i = 0; i < 5000; ++i) ASSERT_EQ(placed[static_cast<size_t>(i)], i);
}

TEST(Packing, RowsOfAMixedSetAreMoreThan97PercentFull) {
  for (const uint64_t seed : {1, 2, 3}) {
    Random random(seed);
    std::vector<int64_t> waiting;
    int64_t tokens = 0;
    constexpr int64_t kRows = 2000;
    for (int64_t row = 0; row < kRows; ++row) {
      while (waiting.size() < 256) waiting.push_back(mixed_length(random));
      Row chosen = choose_pack(waiting, kRow);
      std::sort(chosen.rbegin(), chosen.rend());
      for (const size_t i : chosen) {
        tokens += waiting[i];
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
    const double fill = static_cast<double>(tokens) / static_cast<double>(kRows * kRow);
    RecordProperty("fill", std::to_string(fill));
    EXPECT_GE(fill, 0.97);
  }
}

}  // namespace
}  // namespace vl2::train

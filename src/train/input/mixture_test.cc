#include "train/input/mixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vl2::train {
namespace {

std::vector<int64_t> order_of(int64_t size, uint64_t key) {
  const Permutation permutation(size, key);
  std::vector<int64_t> order;
  for (int64_t i = 0; i < size; ++i) order.push_back(permutation(i));
  return order;
}

// Tokens of a record, as unlike each other as pictures and lines of text are.
int64_t tokens_of(const Draw& draw, int64_t record) {
  Random random(static_cast<uint64_t>(draw.source * 1000003 + record));
  return draw.source == 0 ? 421 + random.below(2500) : 5 + random.below(900);
}

TEST(Permutation, TakesEveryValueOnceForEverySize) {
  for (const int64_t size : {1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 1000, 4097}) {
    std::vector<int64_t> order = order_of(size, 9);
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < size; ++i) ASSERT_EQ(order[static_cast<size_t>(i)], i) << size;
  }
}

TEST(Permutation, DiffersByKeyAndLooksShuffled) {
  EXPECT_EQ(order_of(1000, 1), order_of(1000, 1));
  EXPECT_NE(order_of(1000, 1), order_of(1000, 2));
  // Over many keys each value stands at a place equally often, give or take 5 standard deviations.
  constexpr int kKeys = 10000, kSize = 10;
  std::vector<int> seen(kSize);
  for (uint64_t key = 0; key < kKeys; ++key) ++seen[static_cast<size_t>(Permutation(kSize, key)(3))];
  const double mean = kKeys / kSize, deviation = std::sqrt(mean * (1 - 1.0 / kSize));
  for (const int count : seen) EXPECT_NEAR(count, mean, 5 * deviation);
  // Neighbours do not stay neighbours: of 1000 uniform pairs about 2 are one apart.
  const std::vector<int64_t> order = order_of(1000, 3);
  int close = 0;
  for (size_t i = 1; i < order.size(); ++i) close += std::abs(order[i] - order[i - 1]) == 1;
  EXPECT_LT(close, 12);
}

TEST(Permutation, ReachesFarIntoHugeSets) {
  const int64_t huge = int64_t{1} << 40;
  const Permutation permutation(huge, 5);
  std::set<int64_t> seen;
  for (int64_t i = 0; i < 1000; ++i) {
    const int64_t value = permutation(i);
    EXPECT_TRUE(value >= 0 && value < huge && seen.insert(value).second);
  }
  EXPECT_GT(*seen.rbegin(), huge / 10 * 9);
}

TEST(Mixture, SharesTokensAsTheWeightsSay) {
  Mixture mixture({{1000, 0.7}, {5000, 0.3}}, {.seed = 4});
  int64_t total = 0;
  for (int i = 0; i < 20000; ++i) {
    const int64_t source = *mixture.next_source();
    const Draw draw = *mixture.peek(source);
    const int64_t tokens = tokens_of(draw, mixture.record_of(draw));
    mixture.advance(source, tokens);
    total += tokens;
  }
  const double share = static_cast<double>(mixture.state()[0].tokens) / static_cast<double>(total);
  EXPECT_NEAR(share, 0.7, 0.005);
  EXPECT_GT(mixture.state()[0].epoch, 0);
}

TEST(Mixture, EveryEpochHasEachRecordOnceInAnotherOrder) {
  Mixture mixture({{50, 1}}, {.seed = 1, .epochs = 2});
  std::vector<int64_t> epochs[2];
  while (const auto source = mixture.next_source()) {
    const Draw draw = *mixture.peek(*source);
    epochs[draw.epoch].push_back(mixture.record_of(draw));
    EXPECT_TRUE(mixture.advance(*source, 1));
  }
  EXPECT_NE(epochs[0], epochs[1]);
  for (std::vector<int64_t>& epoch : epochs) {
    std::sort(epoch.begin(), epoch.end());
    ASSERT_EQ(epoch.size(), 50u);
    for (int64_t i = 0; i < 50; ++i) EXPECT_EQ(epoch[static_cast<size_t>(i)], i);
  }
  EXPECT_EQ(mixture.peek(0), std::nullopt);
}

TEST(Mixture, SourcesWithTheSameRecordsAreShuffledApart) {
  const Mixture mixture({{50, 1}, {50, 1}}, {.seed = 1});
  const auto order = [&](int64_t source) {
    std::vector<int64_t> records;
    for (int64_t i = 0; i < 50; ++i) records.push_back(mixture.record_of(*mixture.peek(source, i)));
    return records;
  };
  EXPECT_NE(order(0), order(1));
  EXPECT_EQ(Mixture({{50, 1}}, {.shuffle = false}).record_of({0, 3, 17}), 17);
}

TEST(Mixture, GoesOnFromEveryPlaceAsIfItHadNeverStopped) {
  const std::vector<MixtureSource> sources = {{13, 0.5}, {7, 0.3}, {29, 0.2}};
  Mixture mixture(sources, {.seed = 8});
  std::vector<Draw> draws;
  std::vector<std::vector<SourceState>> states;
  const auto step = [](Mixture& m) {
    const int64_t source = *m.next_source();
    const Draw draw = *m.peek(source);
    m.advance(source, tokens_of(draw, m.record_of(draw)));
    return draw;
  };
  for (int i = 0; i < 100; ++i) {
    states.push_back(mixture.state());
    draws.push_back(step(mixture));
  }
  for (size_t i = 0; i < states.size(); ++i) {
    Mixture resumed(sources, {.seed = 8});
    resumed.restore(states[i]);
    for (size_t j = i; j < draws.size(); ++j) ASSERT_EQ(step(resumed), draws[j]) << i;
  }
}

TEST(Mixture, SaysWhenASourceGivesNothing) {
  Mixture mixture({{3, 1}}, {});
  EXPECT_TRUE(mixture.advance(0, 0));
  EXPECT_TRUE(mixture.advance(0, 5));
  EXPECT_TRUE(mixture.advance(0, 0));
  EXPECT_TRUE(mixture.advance(0, 0));
  EXPECT_TRUE(mixture.advance(0, 0));
  EXPECT_FALSE(mixture.advance(0, 0));
}

TEST(Mixture, RefusesWhatCannotBeMixedOrResumed) {
  EXPECT_THROW(Mixture({}, {}), Error);
  EXPECT_THROW(Mixture({{0, 1}}, {}), Error);
  for (const double weight : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()})
    EXPECT_THROW(Mixture({{1, weight}}, {}), Error);
  EXPECT_THROW(Mixture({{1, 1}}, {.epochs = -1}), Error);
  Mixture mixture({{3, 1}}, {});
  EXPECT_THROW(mixture.restore({}), Error);
  EXPECT_THROW(mixture.restore({{0, 3, 0, 0}}), Error);
  EXPECT_THROW(mixture.restore({{0, -1, 0, 0}}), Error);
  EXPECT_THROW(mixture.restore({{-1, 0, 0, 0}}), Error);
  mixture.restore({{7, 2, 100, 1}});
  EXPECT_EQ(mixture.peek(0), (Draw{0, 7, 2}));
}

}  // namespace
}  // namespace vl2::train

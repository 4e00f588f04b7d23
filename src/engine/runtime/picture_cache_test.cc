#include "engine/runtime/picture_cache.h"

#include <gtest/gtest.h>

namespace vl2 {
namespace {

constexpr int64_t kWidth = 4;

PictureKey key(uint64_t n) { return sha256(std::as_bytes(std::span(&n, 1))); }

class Pictures : public testing::Test {
 protected:
  // Asked for, encoded at once, in use by nobody.
  void encode(uint64_t n, int64_t rows = 10) {
    const auto picture = cache_.get(key(n), {1, 1});
    if (picture->encoded()) return;
    finish(*picture, rows);
    cache_.keep(key(n), picture);
  }
  static void finish(Picture& picture, int64_t rows) {
    picture.feature_memory = std::make_unique<Workspace>();
    picture.features_SD = picture.feature_memory->tensor(rows, kWidth);
    picture.tiles_done = picture.grid.num_tiles();
  }
  bool has(uint64_t n) {
    const int64_t before = cache_.hits();
    cache_.get(key(n), {1, 1});
    return cache_.hits() > before;
  }

  PictureCache cache_{3 * 10 * kWidth * 4};  // three pictures of ten rows
};

TEST_F(Pictures, TheOneAskedForLongestAgoGoesFirst) {
  for (const uint64_t n : {1, 2, 3}) encode(n);
  EXPECT_TRUE(has(1));
  encode(4);
  EXPECT_EQ(cache_.bytes(), 3 * 10 * kWidth * 4);
  EXPECT_EQ(cache_.size(), 3);
  EXPECT_FALSE(has(2));
  for (const uint64_t n : {1, 3, 4}) EXPECT_TRUE(has(n)) << n;
  encode(5, 25);
  EXPECT_EQ(cache_.size(), 1);
  EXPECT_EQ(cache_.bytes(), 25 * kWidth * 4);
}

TEST_F(Pictures, OneThatIsTooLargeIsNotKeptAndPushesNobodyOut) {
  encode(1);
  encode(2, 31);
  EXPECT_FALSE(has(2));
  EXPECT_TRUE(has(1));
}

TEST_F(Pictures, OnesOnTheirWayAndOnesInUseAreShared) {
  const auto first = cache_.get(key(1), {2, 1});
  first->tiles_done = 1;
  EXPECT_EQ(cache_.get(key(1), {2, 1}), first);
  finish(*first, 10);
  cache_.keep(key(1), first);
  for (const uint64_t n : {2, 3, 4}) encode(n);
  EXPECT_EQ(cache_.size(), 3) << "it is not kept any more";
  EXPECT_EQ(cache_.get(key(1), {2, 1}), first) << "but still in use";
  EXPECT_NE(cache_.get(key(5), {2, 1}), first);
}

TEST_F(Pictures, OneNobodyFinishedIsGone) {
  EXPECT_FALSE(has(1));
  EXPECT_FALSE(has(1));
  EXPECT_EQ(cache_.bytes(), 0);
}

TEST_F(Pictures, WithoutRoomOrKeyNothingIsShared) {
  PictureCache off(0);
  const auto a = off.get(key(1), {1, 1});
  EXPECT_NE(off.get(key(1), {1, 1}), a);
  finish(*a, 10);
  off.keep(key(1), a);
  EXPECT_EQ(off.size(), 0);
  const auto b = cache_.get(std::nullopt, {1, 1});
  EXPECT_NE(cache_.get(std::nullopt, {1, 1}), b);
  EXPECT_EQ(cache_.hits(), 0);
}

}  // namespace
}  // namespace vl2

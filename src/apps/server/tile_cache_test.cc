#include "apps/server/tile_cache.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "core/base/random.h"

namespace vl2::server {
namespace {

Digest key(int64_t number) { return sha256(std::as_bytes(std::span(&number, 1))); }
std::shared_ptr<const TileCache::Tiles> tiles(size_t bytes, uint8_t value = 0) {
  return std::make_shared<TileCache::Tiles>(bytes, value);
}

TEST(TileCache, TheOneAskedForLongestAgoGoesFirst) {
  TileCache cache(100);
  for (int64_t i = 0; i < 3; ++i) cache.keep(key(i), tiles(30, static_cast<uint8_t>(i)));
  EXPECT_EQ(cache.counts().bytes, 90);
  ASSERT_NE(cache.find(key(0)), nullptr);
  cache.keep(key(3), tiles(30));
  EXPECT_EQ(cache.counts().bytes, 90);
  EXPECT_EQ(cache.find(key(1)), nullptr);
  ASSERT_NE(cache.find(key(2)), nullptr);
  EXPECT_EQ(cache.find(key(2))->front(), 2);
  EXPECT_EQ(cache.counts().queries, 4);
  EXPECT_EQ(cache.counts().hits, 3);
}

TEST(TileCache, WhatIsTooLargeOrThereAlreadyChangesNothing) {
  TileCache cache(100);
  cache.keep(key(0), tiles(60, 1));
  cache.keep(key(1), tiles(101));
  cache.keep(key(0), tiles(60, 2));
  EXPECT_EQ(cache.counts().bytes, 60);
  EXPECT_EQ(cache.find(key(1)), nullptr);
  EXPECT_EQ(cache.find(key(0))->front(), 1);
  cache.keep(key(2), tiles(100));
  EXPECT_EQ(cache.counts().bytes, 100);
  EXPECT_EQ(cache.find(key(0)), nullptr);
}

TEST(TileCache, OfNoBytesHoldsNothing) {
  TileCache cache(0);
  cache.keep(key(0), tiles(1));
  EXPECT_EQ(cache.find(key(0)), nullptr);
  EXPECT_EQ(cache.counts().bytes, 0);
}

TEST(TileCache, WhatIsInUseOutlivesItsPlace) {
  TileCache cache(10);
  cache.keep(key(0), tiles(10, 7));
  const auto held = cache.find(key(0));
  cache.keep(key(1), tiles(10));
  EXPECT_EQ(cache.find(key(0)), nullptr);
  EXPECT_EQ(*held, TileCache::Tiles(10, 7));
}

TEST(TileCache, ManyThreadsShareIt) {
  TileCache cache(64);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&cache, t] {
      Random random(t);
      for (int i = 0; i < 2000; ++i) {
        const int64_t number = random.below(12);
        if (const auto found = cache.find(key(number)); found != nullptr)
          EXPECT_EQ(found->front(), number);
        else
          cache.keep(key(number), tiles(8, static_cast<uint8_t>(number)));
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(cache.counts().queries, 8000);
  EXPECT_EQ(cache.counts().bytes, 64);
}

TEST(TilesKey, IsOfTheFileAndHowItIsCut) {
  const std::string file = "a picture", other = "b picture";
  const auto bytes = [](const std::string& text) { return std::as_bytes(std::span(text)); };
  TiledImage plan;
  plan.tiles_wide = 2;
  plan.tile_size = 384;
  const Digest first = tiles_key(bytes(file), plan);
  EXPECT_EQ(first, tiles_key(bytes(file), plan));
  EXPECT_NE(first, tiles_key(bytes(other), plan));
  std::swap(plan.tiles_wide, plan.tiles_high);
  EXPECT_NE(first, tiles_key(bytes(file), plan));
}

}  // namespace
}  // namespace vl2::server

#include "engine/runtime/kv_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <span>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vl2 {
namespace {

std::vector<int32_t> take(KvBlocks& pool, int64_t n) {
  std::vector<int32_t> blocks;
  pool.allocate(n, blocks);
  return blocks;
}

template <typename Fn>
ErrorCode code_of(const Fn& fn) {
  try {
    fn();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::kCancelled;
}

TEST(KvBlocks, GivesEachBlockToOneUserAndTakesItBack) {
  KvBlocks pool(5, 16);
  const auto a = take(pool, 2);
  const auto b = take(pool, 3);
  std::set<int32_t> all(a.begin(), a.end());
  all.insert(b.begin(), b.end());
  EXPECT_EQ(all, (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.num_used(), 5);
  pool.free(a);
  EXPECT_EQ(pool.num_free(), 2);
  const auto c = take(pool, 2);
  EXPECT_EQ(std::set<int32_t>(c.begin(), c.end()), std::set<int32_t>(a.begin(), a.end()));
}

TEST(KvBlocks, BlocksComeInAscendingOrderWhateverWasFreed) {
  KvBlocks pool(64, 16);
  Random random(5);
  std::vector<std::vector<int32_t>> users;
  for (int turn = 0; turn < 200; ++turn) {
    const int64_t n = 1 + random.below(9);
    while (pool.num_free() < n) {
      const auto user = users.begin() + random.below(static_cast<int64_t>(users.size()));
      pool.free(*user);
      users.erase(user);
    }
    users.push_back(take(pool, n));
    EXPECT_TRUE(std::is_sorted(users.back().begin(), users.back().end()));
    // Some are remembered after they are freed.
    if (turn % 2 == 0) {
      pool.name(users.back().front(), sha256(std::as_bytes(std::span(&turn, 1))));
      pool.complete(users.back().front());
    }
  }
}

TEST(KvBlocks, WhenExhaustedNothingIsTaken) {
  KvBlocks pool(4, 16);
  std::vector<int32_t> blocks = take(pool, 3);
  EXPECT_EQ(code_of([&] { pool.allocate(2, blocks); }), ErrorCode::kOutOfMemory);
  EXPECT_EQ(blocks.size(), 3u);
  EXPECT_EQ(pool.num_free(), 1);
  pool.allocate(1, blocks);
  EXPECT_EQ(blocks.size(), 4u);
  pool.allocate(0, blocks);
  EXPECT_EQ(blocks.size(), 4u);
}

TEST(KvBlocks, ASharedBlockStaysUntilItsLastUserFreesIt) {
  KvBlocks pool(3, 16);
  const auto prefix = take(pool, 2);
  pool.retain(prefix);
  EXPECT_EQ(pool.references(prefix[0]), 2);
  pool.free(prefix);
  EXPECT_EQ(pool.num_used(), 2);
  pool.free(prefix);
  EXPECT_EQ(pool.num_used(), 0);
  EXPECT_EQ(pool.references(prefix[0]), 0);
}

TEST(KvBlocks, MisuseIsOurBugNotACrash) {
  KvBlocks pool(2, 16);
  const auto blocks = take(pool, 1);
  pool.free(blocks);
  EXPECT_EQ(code_of([&] { pool.free(blocks); }), ErrorCode::kInternal);
  EXPECT_EQ(code_of([&] { pool.retain(blocks); }), ErrorCode::kInternal);
  EXPECT_EQ(code_of([&] { pool.free(std::vector<int32_t>{2}); }), ErrorCode::kInternal);
  EXPECT_EQ(code_of([&] { pool.references(-1); }), ErrorCode::kInternal);
  EXPECT_EQ(code_of([&] { take(pool, -1); }), ErrorCode::kInternal);
  EXPECT_EQ(code_of([&] { KvBlocks(-1, 16); }), ErrorCode::kInternal);
  EXPECT_EQ(code_of([&] { KvBlocks(1, 0); }), ErrorCode::kInternal);
}

TEST(KvBlocks, RoundsTokensUpToBlocks) {
  const KvBlocks pool(0, 16);
  EXPECT_EQ(pool.blocks_for(0), 0);
  EXPECT_EQ(pool.blocks_for(1), 1);
  EXPECT_EQ(pool.blocks_for(16), 1);
  EXPECT_EQ(pool.blocks_for(17), 2);
  EXPECT_EQ(pool.blocks_for(INT64_MAX), INT64_MAX / 16 + 1);
}

TEST(KvBlocks, CountsHoldOverManyRandomSteps) {
  KvBlocks pool(20, 16);
  Random random(1);
  std::vector<std::vector<int32_t>> sequences;
  for (int step = 0; step < 5000; ++step) {
    const int64_t choice = random.below(3);
    if (choice == 0 && pool.num_free() > 0) {
      sequences.push_back(take(pool, 1 + random.below(pool.num_free())));
    } else if (choice == 1 && !sequences.empty()) {
      const auto shared = sequences[static_cast<size_t>(random.below(static_cast<int64_t>(sequences.size())))];
      pool.retain(shared);
      sequences.push_back(shared);
    } else if (!sequences.empty()) {
      const auto it = sequences.begin() + random.below(static_cast<int64_t>(sequences.size()));
      pool.free(*it);
      sequences.erase(it);
    }
    std::vector<int32_t> expected(20);
    for (const auto& sequence : sequences)
      for (const int32_t block : sequence) ++expected[static_cast<size_t>(block)];
    int64_t used = 0;
    for (int32_t block = 0; block < 20; ++block) {
      ASSERT_EQ(pool.references(block), expected[static_cast<size_t>(block)]);
      used += expected[static_cast<size_t>(block)] > 0 ? 1 : 0;
    }
    ASSERT_EQ(pool.num_used(), used);
  }
}

}  // namespace
}  // namespace vl2

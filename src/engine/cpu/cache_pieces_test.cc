#include "engine/cpu/cache_pieces.h"

#include <gtest/gtest.h>

#include <numeric>

namespace vl2::cpu {
namespace {

constexpr int64_t kBlock = 4, kPiece = 16;

std::vector<int32_t> blocks(int32_t first, int32_t count) {
  std::vector<int32_t> result(static_cast<size_t>(count));
  std::iota(result.begin(), result.end(), first);
  return result;
}

std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(CachePieces, ASequenceAloneIsCutAtMultiples) {
  const std::vector<int32_t> own = blocks(7, 10);
  const SequenceSlice s{3, 2, 36, own, true};
  const CachePieces cut = cut_cache({&s, 1}, kPiece, kBlock);
  ASSERT_EQ(cut.pieces.size(), 3u);
  EXPECT_EQ(cut.pieces[2].begin, 32);
  EXPECT_EQ(cut.pieces[2].end, 38);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(cut.pieces[i].rows, 2);
    EXPECT_EQ(cut.readers[0].parts[i].piece, i);
    EXPECT_EQ(cut.readers[0].parts[i].first_row, 0);
  }
}

TEST(CachePieces, PromptsAreNotThere) {
  const std::vector<int32_t> own = blocks(0, 10);
  const SequenceSlice s{0, 2, 30, own, false};
  EXPECT_TRUE(cut_cache({&s, 1}, kPiece, kBlock).readers.empty());
}

TEST(CachePieces, WhatIsHeldInTheSameBlocksIsOnePiece) {
  const std::vector<int32_t> common = blocks(0, 8);
  const std::vector<int32_t> a = joined(common, blocks(20, 4)), b = joined(common, blocks(30, 4)),
                             c = joined(blocks(0, 4), blocks(40, 6));
  const std::vector<SequenceSlice> slices = {{0, 1, 40, a, true}, {1, 3, 33, b, true}, {4, 2, 35, c, true}};
  const CachePieces cut = cut_cache(slices, kPiece, kBlock);
  // [0, 16) of all, [16, 32) of the first two and of the third, and everybody's last.
  ASSERT_EQ(cut.pieces.size(), 6u);
  EXPECT_EQ(cut.pieces[0].readers, (std::vector<size_t>{0, 1, 2}));
  EXPECT_EQ(cut.pieces[0].rows, 6);
  EXPECT_EQ(cut.readers[1].parts[0].first_row, 1);
  EXPECT_EQ(cut.readers[2].parts[0].first_row, 4);
  EXPECT_EQ(cut.pieces[1].readers, (std::vector<size_t>{0, 1}));
  EXPECT_EQ(cut.readers[1].parts[1].piece, 1u);
  EXPECT_NE(cut.readers[2].parts[1].piece, 1u);
  for (const CachePieces::Reader& reader : cut.readers)
    EXPECT_EQ(cut.pieces[reader.parts.back().piece].readers.size(), 1u);
}

TEST(CachePieces, KeysOfThisStepAreNotShared) {
  const std::vector<int32_t> same = blocks(0, 8);
  const std::vector<SequenceSlice> slices = {{0, 1, 15, same, true}, {1, 1, 15, same, true}};
  EXPECT_EQ(cut_cache(slices, kPiece, kBlock).pieces.size(), 2u);
}

TEST(CachePieces, TheFirstBlockAloneDoesNotMakeThemTheSame) {
  const std::vector<int32_t> a = joined(blocks(0, 2), blocks(10, 4)), b = joined(blocks(0, 2), blocks(20, 4)),
                             other_place = joined(blocks(50, 4), blocks(0, 4));
  const std::vector<SequenceSlice> slices = {{0, 1, 20, a, true}, {1, 1, 20, b, true}, {2, 1, 31, other_place, true}};
  const CachePieces cut = cut_cache(slices, kPiece, kBlock);
  EXPECT_EQ(cut.pieces.size(), 6u);
}

}  // namespace
}  // namespace vl2::cpu

#include "core/text/bpe.h"

#include <gtest/gtest.h>

#include <string>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vl2 {
namespace {

// Bytes are their own ids; merged tokens follow.
Bpe make_bpe(const std::vector<std::pair<int32_t, int32_t>>& merges) {
  std::array<int32_t, 256> byte_ids;
  for (int32_t b = 0; b < 256; ++b) byte_ids[static_cast<size_t>(b)] = b;
  MergeTable table(merges.size());
  for (uint32_t i = 0; i < merges.size(); ++i)
    table.insert(merges[i].first, merges[i].second, {i, 256 + static_cast<int32_t>(i)});
  return Bpe(byte_ids, std::move(table));
}

std::vector<int32_t> encode(const Bpe& bpe, const std::string& text) {
  Bpe::Scratch scratch;
  std::vector<int32_t> ids;
  bpe.encode(text, scratch, ids);
  return ids;
}

TEST(Bpe, TheLowestRankGoesFirstAndTheLeftmostOfEquals) {
  const Bpe bpe = make_bpe({{'b', 'c'}, {'a', 'b'}, {'a', 'a'}, {258, 'a'}});
  EXPECT_EQ(encode(bpe, "abc"), (std::vector<int32_t>{'a', 256}));  // "bc" before "ab", though further right
  EXPECT_EQ(encode(bpe, "aaa"), (std::vector<int32_t>{259}));       // (aa)a
  EXPECT_EQ(encode(bpe, "aaaa"), (std::vector<int32_t>{258, 258}));
  EXPECT_EQ(encode(bpe, ""), std::vector<int32_t>{});
  EXPECT_EQ(encode(bpe, "x"), std::vector<int32_t>{'x'});
}

TEST(Bpe, AMissingPairDoesNotMerge) {
  MergeTable table(1);
  table.insert(1, 2, {0, 3});
  EXPECT_EQ(table.find(1, 2).id, 3);
  EXPECT_EQ(table.find(2, 1).id, -1);
  EXPECT_EQ(MergeTable().find(0, 0).id, -1);
}

TEST(Bpe, BothWaysGiveTheSameTokens) {
  Random random(11);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::pair<int32_t, int32_t>> merges;
    for (int32_t i = 0; i < 40; ++i) {  // a merge may use any earlier token
      const auto pick = [&] {
        const int64_t id = random.below(4 + i);
        return static_cast<int32_t>(id < 4 ? 'a' + id : 256 + id - 4);
      };
      const int32_t left = pick();
      merges.emplace_back(left, pick());
    }
    const Bpe bpe = make_bpe(merges);
    std::string text;
    for (int64_t i = random.below(80); i > 0; --i) text += static_cast<char>('a' + random.below(4));
    Bpe::Scratch scratch;
    std::vector<int32_t> shorter;
    std::vector<int32_t> longer;
    bpe.encode_short(text, scratch, shorter);
    bpe.encode_long(text, scratch, longer);
    ASSERT_EQ(shorter, longer) << text;
  }
}

TEST(Bpe, AMillionEqualBytesMergeInNLogN) {
  std::vector<std::pair<int32_t, int32_t>> merges = {{'a', 'a'}};
  for (int32_t i = 0; i < 6; ++i) merges.emplace_back(256 + i, 256 + i);  // up to 128 of them
  const auto ids = encode(make_bpe(merges), std::string(1'000'000, 'a'));
  EXPECT_EQ(ids.size(), 1'000'000u / 128 + 1);  // 7812 of 128 and one of 64
}

TEST(Bpe, AByteWithoutATokenIsNamed) {
  std::array<int32_t, 256> byte_ids;
  byte_ids.fill(Bpe::kNoToken);
  byte_ids['a'] = 0;
  const Bpe bpe(byte_ids, MergeTable());
  EXPECT_EQ(encode(bpe, "aa"), (std::vector<int32_t>{0, 0}));
  try {
    encode(bpe, "a\xE4");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("0xE4"), std::string::npos);
  }
}

}  // namespace
}  // namespace vl2

#include "engine/ops/op_work.h"

#include <gtest/gtest.h>

#include <array>

#include "engine/ops/ops.h"

namespace vl2 {
namespace {

class Stored : public WeightStorage {
 public:
  explicit Stored(int64_t bytes) : bytes_(bytes) {}
  int64_t num_bytes() const override { return bytes_; }

 private:
  int64_t bytes_;
};

class Cache : public KvCache {
 public:
  Cache() : KvCache(3, 10, 16, 5) {}  // layers, blocks, tokens of a block, values of a token
  int64_t num_bytes() const override { return 3 * 10 * 16 * 5 * 2; }
  void read(int64_t, std::span<const int32_t>, int64_t, float*) const override {}
};

Weight weight(int64_t out, int64_t in, int64_t bytes) { return {std::make_shared<Stored>(bytes), out, in}; }
GatedMlp mlp(int64_t hidden, int64_t inner, int64_t bytes) {
  return {{weight(inner, hidden, bytes), {}}, {weight(inner, hidden, bytes), {}}, {weight(hidden, inner, bytes), {}}};
}
Tensor tensor(int64_t rows, int64_t cols, int64_t heads = 1) { return {.rows = rows, .heads = heads, .cols = cols}; }

TEST(OpWork, ALinearMultipliesEveryRowWithEveryWeight) {
  const OpWork work = linear_work(tensor(3, 20), tensor(3, 10), weight(20, 10, 407));
  EXPECT_DOUBLE_EQ(work.flops, 2 * 3 * 20 * 10);
  EXPECT_DOUBLE_EQ(work.weight_bytes, 407);
  EXPECT_DOUBLE_EQ(work.activation_bytes, 4 * (3 * 20 + 3 * 10));
  EXPECT_DOUBLE_EQ(work.bytes(), 407 + 360);
}

TEST(OpWork, OnlyChosenExpertsAreReadAndEachOnce) {
  ExpertWeights experts;
  for (int64_t e = 0; e < 4; ++e) experts.experts.push_back(mlp(10, 6, 100 * (e + 1)));
  std::array<int32_t, 6> chosen = {0, 2, 2, 0, 0, 2};
  Routing routing;
  routing.num_tokens = 3;
  routing.num_experts = 4;
  routing.top_k = 2;
  routing.expert = chosen;
  const OpWork work = routed_experts_work(tensor(3, 10), tensor(3, 10), routing, experts);
  EXPECT_EQ(work.experts, 2);
  EXPECT_DOUBLE_EQ(work.weight_bytes, 3 * 100 + 3 * 300);
  EXPECT_DOUBLE_EQ(work.flops, 6 * 2 * 3 * 10 * 6);
}

TEST(OpWork, AttentionCountsTheTokensEachQuerySees) {
  Cache cache;
  const std::vector<SequenceSlice> sequences = {{0, 2, 7, {}, false}, {2, 1, 4, {}, true}};
  const OpWork work = cached_attention_work(tensor(3, 8), tensor(3, 4, 2), tensor(3, 4, 2), {&cache, 1}, sequences);
  // The first sequence's tokens see 8 and 9 tokens, the second's sees 5; scores and mixture, 2 heads of 4.
  EXPECT_DOUBLE_EQ(work.flops, (8 + 9 + 5) * 2 * (2 * 4 + 2 * 4));
  EXPECT_DOUBLE_EQ(work.cache_bytes, (9 + 5) * 5 * 2);
}

TEST(OpWork, LatentAttentionReadsTwoOfTheThreePartsOfItsWeights) {
  Cache cache;
  const std::vector<SequenceSlice> sequences = {{0, 1, 9, {}, true}};
  // 2 heads: W_UK [4, 3], W_UV [5, 3] and W_UK^T [3, 4], a byte a value.
  const LatentWeights w{weight(2 * 9, 3, 2 * (12 + 15 + 12)), 2, 4, 5, 3};
  const OpWork work = latent_attention_work(tensor(1, 10), tensor(1, 6, 2), w, {&cache, 0}, sequences);
  EXPECT_DOUBLE_EQ(work.weight_bytes, 2 * (12 + 15));
  EXPECT_DOUBLE_EQ(work.flops, 2 * 2 * (4 + 5) * 3 + 2 * 10 * 2 * (6 + 5));
}

TEST(OpWork, FullAttentionStaysInsideAnItem) {
  const OpWork work = full_attention_work(tensor(8, 6), tensor(8, 18), 4);
  EXPECT_DOUBLE_EQ(work.flops, 2 * (2 * 4 * 4 * 6 * 2));  // two items of 4 tokens
}

}  // namespace
}  // namespace vl2

// H: heads, K: width of q and k, V: of v, C: latent, N: not rotated, R: rotated.
#include "train/model/rounded_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "train/model/attention.h"
#include "train/model/sequence_layout.h"

namespace vl2::train {
namespace {

at::Tensor rounded(const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); }
double distance(const at::Tensor& a, const at::Tensor& b) { return ((a - b).norm() / b.norm()).item<double>(); }

at::Tensor causal_mask(int64_t queries, int64_t keys) {
  const at::Tensor last = at::arange(keys - queries, keys, at::kLong).unsqueeze(1);
  return at::zeros({1, queries, keys}).masked_fill_(at::arange(keys, at::kLong).unsqueeze(0).gt(last), kHidden);
}

// Lengths below, at and beyond a block of keys.
class RoundedAttend : public testing::TestWithParam<int64_t> {};

TEST_P(RoundedAttend, IsAttentionUpToTheRounding) {
  at::manual_seed(1);
  const int64_t keys = GetParam(), queries = std::min<int64_t>(keys, 9);
  const at::Tensor q = at::randn({1, queries, 3, 20}), k = at::randn({1, keys, 3, 20}), v = at::randn({1, keys, 3, 12});
  for (const at::Tensor& mask : {at::Tensor(), causal_mask(queries, keys)}) {
    const at::Tensor exact = attend(q, k, v, 0.3, mask), result = rounded_attend(q, k, v, 0.3, mask);
    ASSERT_EQ(result.sizes(), exact.sizes());
    EXPECT_LE(distance(result, exact), 0x1p-7);
    EXPECT_GE(distance(result, exact), 0x1p-12) << "nothing was rounded";
  }
}

// One key a row sees, whatever its score: the exponential is 1, so the value comes through as it was rounded.
TEST_P(RoundedAttend, RoundsValuesAndNotTheirSum) {
  at::manual_seed(2);
  const int64_t keys = GetParam();
  const at::Tensor k = at::randn({1, keys, 2, 4}), v = at::randn({1, keys, 2, 4});
  const at::Tensor only = at::full({1, 1, keys}, kHidden);
  only[0][0][keys - 1] = 0;
  const at::Tensor out = rounded_attend(at::randn({1, 1, 2, 4}), k, v, 1.0, only);
  EXPECT_TRUE(at::equal(out[0][0], rounded(v[0][keys - 1])));
}

INSTANTIATE_TEST_SUITE_P(Keys, RoundedAttend, testing::Values(1, 100, 256, 257, 700));

TEST(AbsorbedAttend, IsAttentionOverExpandedKeysUpToTheRounding) {
  at::manual_seed(3);
  const int64_t heads = 3, keys = 300, nope = 20, v = 12, rank = 40, rope = 8, queries = 2;
  const at::Tensor q_nope = at::randn({queries, heads, nope}), q_pe = at::randn({queries, heads, rope});
  const at::Tensor latents = rounded(at::randn({keys, rank})), k_pe = rounded(at::randn({keys, rope}));
  const at::Tensor kv_b = rounded(at::randn({heads, nope + v, rank}) * 0.15), mask = causal_mask(queries, keys);
  const at::Tensor kv = at::matmul(latents, kv_b.flatten(0, 1).t()).view({1, keys, heads, nope + v});
  const at::Tensor k =
      at::cat({kv.narrow(3, 0, nope), k_pe.view({1, keys, 1, rope}).expand({1, keys, heads, rope})}, 3);
  const at::Tensor exact =
      attend(at::cat({q_nope, q_pe}, 2).unsqueeze(0), k, kv.narrow(3, nope, v), 0.2, mask)[0].flatten(1);
  const at::Tensor result = absorbed_attend(q_nope, q_pe, latents, k_pe, kv_b, 0.2, mask[0]);
  ASSERT_EQ(result.sizes(), exact.sizes());
  EXPECT_LE(distance(result, exact), 0x1p-7);
  // Queries that are bf16 already leave only the mixed latents to be rounded, each for itself: still nearer.
  const at::Tensor same = absorbed_attend(rounded(q_nope), q_pe, latents, k_pe, kv_b, 0.2, mask[0]);
  const at::Tensor exact_same =
      attend(at::cat({rounded(q_nope), q_pe}, 2).unsqueeze(0), k, kv.narrow(3, nope, v), 0.2, mask)[0].flatten(1);
  EXPECT_LE(distance(same, exact_same), 0x1p-8);
}

}  // namespace
}  // namespace vl2::train

#include "train/model/fused_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "train/model/attention.h"
#include "train/model/attention_kernels.h"
#include "train/model/row_kernels.h"

namespace vl2::train {
namespace {

// bf16 values that are float32 as well, so that both sides compute from the same numbers.
at::Tensor random_half(std::vector<int64_t> shape) { return at::randn(shape, at::kFloat).to(at::kBFloat16); }

at::Tensor leaf(const at::Tensor& half, at::ScalarType type) { return half.to(type).detach().requires_grad_(true); }

double relative(const at::Tensor& got, const at::Tensor& expected) {
  const at::Tensor e = expected.to(at::kDouble);
  return ((got.to(at::kDouble) - e).norm() / (e.norm() + 1e-30)).item<double>();
}

// Sums of products rounded to bf16 once: half a unit in the last of 8 bits, of which the root mean square is a third.
constexpr double kOneRounding = 1.0 / 512;

struct Case {
  std::vector<int64_t> starts;
  int64_t rows, heads, groups, width, value_width;
};

const Case kCases[] = {{{0, 1}, 1, 1, 1, 4, 4},
                       {{0, 5, 5, 38}, 40, 2, 2, 64, 48},
                       {{0, 33, 130}, 130, 4, 2, 24, 24},
                       {{0, 31, 63, 64, 97}, 128, 3, 1, 17, 9},
                       {{0, 200}, 200, 1, 1, 72, 72}};

at::Tensor reference(const Case& c, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  std::vector<at::Tensor> parts;
  const int64_t repeats = c.heads / c.groups;
  for (size_t s = 0; s + 1 < c.starts.size(); ++s) {
    const int64_t first = c.starts[s], length = c.starts[s + 1] - first;
    if (length == 0) continue;
    const auto of = [&](const at::Tensor& x, int64_t times) {
      return x.narrow(0, first, length).repeat_interleave(times, 1).unsqueeze(0);
    };
    const at::Tensor mask = at::full({length, length}, -1e30, q.options()).triu_(1).unsqueeze(0);
    parts.push_back(attend(of(q, 1), of(k, repeats), of(v, repeats), scale, mask).reshape({length, -1}));
  }
  const int64_t end = c.starts.back();
  if (end < c.rows) parts.push_back(at::zeros({c.rows - end, c.heads * c.value_width}, q.options()));
  return at::cat(parts);
}

TEST(FusedAttention, CausalIsWhatBatchedProductsGiveThereAndBack) {
  at::manual_seed(1);
  for (const Case& c : kCases) {
    const at::Tensor q = random_half({c.rows, c.heads, c.width}), k = random_half({c.rows, c.groups, c.width}),
                     v = random_half({c.rows, c.groups, c.value_width}),
                     dout = random_half({c.rows, c.heads * c.value_width});
    const at::Tensor qh = leaf(q, at::kBFloat16), kh = leaf(k, at::kBFloat16), vh = leaf(v, at::kBFloat16);
    const at::Tensor qd = leaf(q, at::kDouble), kd = leaf(k, at::kDouble), vd = leaf(v, at::kDouble);
    const at::Tensor got = fused_causal_attention(qh, kh, vh, c.starts, 0.3);
    const at::Tensor expected = reference(c, qd, kd, vd, 0.3);
    EXPECT_LT(relative(got, expected), kOneRounding) << c.rows;
    EXPECT_EQ(got.narrow(0, c.starts.back(), c.rows - c.starts.back()).abs().sum().item<double>(), 0) << c.rows;
    got.backward(dout);
    expected.backward(dout.to(at::kDouble));
    // Besides their own rounding, gradients see the output's, through the sum of out * dout.
    EXPECT_LT(relative(qh.grad(), qd.grad()), 3 * kOneRounding) << c.rows;
    EXPECT_LT(relative(kh.grad(), kd.grad()), 3 * kOneRounding) << c.rows;
    EXPECT_LT(relative(vh.grad(), vd.grad()), 3 * kOneRounding) << c.rows;
  }
}

TEST(FusedAttention, OfTilesIsWhatBatchedProductsGiveThereAndBack) {
  at::manual_seed(2);
  for (const auto& [tiles, length, heads, width] :
       {std::array<int64_t, 4>{1, 1, 1, 8}, {2, 49, 3, 64}, {3, 121, 2, 72}}) {
    const at::Tensor qkv = random_half({tiles * length, 3, heads, width}),
                     dout = random_half({tiles * length, heads * width});
    const at::Tensor half = leaf(qkv, at::kBFloat16), exact = leaf(qkv, at::kDouble);
    const at::Tensor got = fused_attention(half, length, 0.2);
    const auto parts = exact.view({tiles, length, 3, heads, width}).unbind(2);
    const at::Tensor expected = attend(parts[0], parts[1], parts[2], 0.2, at::Tensor()).reshape({tiles * length, -1});
    EXPECT_LT(relative(got, expected), kOneRounding) << length;
    got.backward(dout);
    expected.backward(dout.to(at::kDouble));
    EXPECT_LT(relative(half.grad(), exact.grad()), 3 * kOneRounding) << length;
  }
}

TEST(FusedAttention, PartsOfOtherTensorsNeedNotBeCopied) {
  at::manual_seed(3);
  const at::Tensor kv = random_half({40, 2, 30}), q = random_half({40, 2, 18});
  const at::Tensor whole = fused_causal_attention(q, kv.narrow(2, 0, 18), kv.narrow(2, 18, 12), {0, 17, 40}, 0.4);
  const at::Tensor copied =
      fused_causal_attention(q, kv.narrow(2, 0, 18).contiguous(), kv.narrow(2, 18, 12).contiguous(), {0, 17, 40}, 0.4);
  EXPECT_TRUE(at::equal(whole, copied));
}

TEST(FusedAttention, EveryInstructionSetComputesTheSame) {
  at::manual_seed(4);
  const AttentionSizes sizes{
      .length = 77, .heads_a_group = 2, .width = 20, .value_width = 12, .scale = 0.3f, .causal = true};
  const at::Tensor q = random_half({77, 2, 20}), k = random_half({77, 1, 20}), v = random_half({77, 1, 12}),
                   dout = random_half({77, 2, 12});
  const auto rows = [](const at::Tensor& x) {
    return HeadRows<uint16_t>{reinterpret_cast<uint16_t*>(x.data_ptr<at::BFloat16>()), x.stride(0), x.stride(1)};
  };
  const auto read = [&](const at::Tensor& x) {
    const auto r = rows(x);
    return HeadRows<const uint16_t>{r.data, r.row_stride, r.head_stride};
  };
  std::vector<std::vector<at::Tensor>> results;
  for (int which = 0; which < num_row_kernels(); ++which) {
    std::vector<float> scratch;
    const at::Tensor out = at::empty_like(dout), lse = at::empty({77, 2}, at::kFloat), dq = at::empty_like(q),
                     dk = at::empty_like(k), dv = at::empty_like(v);
    float* numbers = lse.data_ptr<float>();
    attention_kernels(which).forward(
        sizes, 0, {.q = read(q), .k = read(k), .v = read(v), .out = rows(out), .lse = {numbers, 2, 1}}, scratch);
    attention_kernels(which).backward(sizes, 0,
                                      {.q = read(q),
                                       .k = read(k),
                                       .v = read(v),
                                       .out = read(out),
                                       .dout = read(dout),
                                       .lse = {numbers, 2, 1},
                                       .dq = rows(dq),
                                       .dk = rows(dk),
                                       .dv = rows(dv)},
                                      scratch);
    results.push_back({out, lse, dq, dk, dv});
  }
  // They differ where fused multiplication and addition round otherwise: now and then by one unit of bf16.
  for (size_t which = 1; which < results.size(); ++which)
    for (size_t i = 0; i < results[0].size(); ++i)
      EXPECT_LT(relative(results[which][i], results[0][i]), kOneRounding) << which << " " << i;
}

}  // namespace
}  // namespace vl2::train

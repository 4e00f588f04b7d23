#include "engine/cuda/kernels/flash_attention.h"

#include <gtest/gtest.h>

#include "engine/cuda/kernels/attention_case_test.h"
#include "engine/cuda/kernels/attention_pack.h"

namespace vl2::cuda {
namespace {

struct Shape {
  int32_t items, rows, past, heads, groups, size, v;
  bool causal;
};

void PrintTo(const Shape& s, std::ostream* out) {
  *out << s.items << " items of " << s.rows << " rows after " << s.past << ", " << s.heads << " heads over " << s.groups
       << " of " << s.size << " and " << s.v;
}

class FlashAttentionKernel : public testing::TestWithParam<Shape> {
 protected:
  // Rounds what bf16 rounds, so that what is left is sums in float32 and rounded softmax weights.
  void run(bool bf16) {
    const Shape s = GetParam();
    Random random(7);
    const int32_t keys = s.causal ? s.past + s.rows : s.rows;
    HeadRows q(s.items * s.rows, s.heads, s.size, random), k(s.items * keys, s.groups, s.size, random),
        v(s.items * keys, s.groups, s.v, random), out(s.items * s.rows, s.heads, s.v, -7.0f);
    for (HeadRows* x : {&q, &k, &v})
      for (float& value : x->values)
        if (bf16) value = as_bf16(value);
    const FlashSizes sizes = flash_sizes(s.size, s.v, bf16);
    const int64_t packed_rows = static_cast<int64_t>(s.items) * s.groups * keys;
    std::vector<float> packed(static_cast<size_t>(packed_rows * sizes.key_bytes() / 4 + 8));
    auto* const k_packed = reinterpret_cast<std::byte*>(packed.data());
    std::byte* const v_packed = k_packed + packed_rows * sizes.size * (sizes.bf16 ? 2 : 4);
    const auto source = [](const HeadRows& x) {
      return PackSource{x.view.data, x.view.row_stride, x.view.head_stride, static_cast<int32_t>(x.view.cols), 0};
    };
    pack({k_packed, sizes.bf16, s.items, s.groups, keys, sizes.size, source(k), {}, {}, nullptr}, nullptr);
    pack({v_packed, sizes.bf16, s.items, s.groups, keys, sizes.v, source(v), {}, {}, nullptr}, nullptr);
    flash_attention({out.view, q.view, k_packed, v_packed, sizes.bf16, s.items, s.groups, s.rows, keys, sizes.size,
                     sizes.v, s.causal, s.past, 0.31f},
                    nullptr);
    // Weights sum to one and values are at most 2: a weight's rounding is at most 2^-9 of it.
    const double tolerance = sizes.bf16 ? 2.0 / 512 + 1e-4 : 1e-5;
    for (int32_t item = 0; item < s.items; ++item)
      for (int32_t row = 0; row < s.rows; ++row)
        for (int32_t h = 0; h < s.heads; ++h) {
          const int32_t at = item * s.rows + row, g = h / (s.heads / s.groups), first = item * keys;
          const auto p = softmax_weights(
              s.causal ? s.past + row + 1 : keys, s.size, 0.31f, [&](int64_t d) { return q.get(at, h, d); },
              [&](int64_t j, int64_t d) { return k.get(first + j, g, d); });
          for (int32_t d = 0; d < s.v; ++d) {
            double expected = 0;
            for (size_t j = 0; j < p.size(); ++j) expected += p[j] * v.get(first + static_cast<int64_t>(j), g, d);
            ASSERT_NEAR(out.get(at, h, d), expected, tolerance)
                << "item " << item << " row " << row << " head " << h << " column " << d;
          }
        }
    for (int32_t row = 0; row < s.items * s.rows; ++row)
      for (int i = 0; i < 3; ++i) ASSERT_EQ(out.at(row, s.heads)[i], -7.0f) << "behind row " << row;
  }
};

TEST_P(FlashAttentionKernel, InFloat32IsAttention) { run(false); }
TEST_P(FlashAttentionKernel, InBf16IsAttentionOfRoundedOperands) { run(true); }

INSTANTIATE_TEST_SUITE_P(Shapes, FlashAttentionKernel,
                         testing::Values(Shape{1, 1, 0, 1, 1, 1, 1, false}, Shape{2, 133, 0, 2, 2, 72, 72, false},
                                         Shape{3, 49, 0, 3, 3, 7, 7, false}, Shape{1, 64, 0, 1, 1, 16, 16, false},
                                         Shape{1, 70, 61, 2, 1, 128, 128, true}, Shape{1, 130, 0, 2, 2, 32, 24, true},
                                         Shape{1, 37, 100, 2, 2, 192, 128, true}, Shape{1, 1, 63, 4, 2, 23, 23, true},
                                         Shape{1, 66, 5, 3, 1, 45, 17, true}, Shape{1, 9, 30, 2, 1, 200, 40, true}));

}  // namespace
}  // namespace vl2::cuda

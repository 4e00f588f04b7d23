#include "engine/cuda/kernels/grouped.h"

#include <algorithm>

#include "engine/cuda/kernels/experts_many.h"
#include "engine/cuda/kernels/kernel_test.h"

namespace vl2::cuda {
namespace {

TEST(GroupedKernel, MultipliesManyRowsByOneMatrix) {
  Random random(21);
  struct Size {
    int64_t rows, in, out;
  };
  for (const MatrixFormat format : kAllFormats)
    for (const Size& size : {Size{1, 1, 1}, Size{17, 70, 9}, Size{64, 64, 128}, Size{65, 129, 130}, Size{131, 320, 50},
                             Size{40, 257, 129}})
      for (const bool exact : {true, false}) {
        const KernelMatrix w(format, size.out, size.in, random);
        KernelRows x(size.rows, size.in, random.below(2) * 3 + (4 - size.in % 4) % 4), out(size.rows, size.out);
        x.fill(random);
        Aligned<float> bias(size.out);
        for (int64_t i = 0; i < size.out; ++i) bias[i] = random.normal();
        const bool with_bias = random.below(2) == 1, add = random.below(2) == 1;
        for (int64_t r = 0; add && r < size.rows; ++r)
          for (int64_t c = 0; c < size.out; ++c) out.row(r)[c] = static_cast<float>(r + c);
        Aligned<std::byte> scratch(static_cast<int64_t>(many_rows_scratch_bytes(size.rows, size.in)));
        linear_many_rows(nullptr, {out.values.data(), x.values.data(), out.stride, x.stride, size.rows, w.view,
                                   with_bias ? bias.data() : nullptr, add, exact, scratch.data()});
        for (int64_t r = 0; r < size.rows; ++r) {
          for (int64_t c = 0; c < size.out; ++c) {
            const Dot dot(x.row(r), w.row(c), size.in);
            const double start =
                (with_bias ? static_cast<double>(bias[c]) : 0.0) + (add ? static_cast<double>(r + c) : 0.0);
            ASSERT_NEAR(out.row(r)[c], start + dot.sum,
                        dot.tolerance(size.in, exact || format == MatrixFormat::kF32) + 4e-7 * std::fabs(start))
                << format_name(format) << " " << size.rows << " x " << size.in << " -> " << size.out << " row " << r
                << " column " << c << (exact ? " exact" : "");
          }
          for (int64_t c = size.out; c < out.stride; ++c) ASSERT_TRUE(std::isnan(out.row(r)[c]));
        }
      }
}

// Whole numbers are not rounded: codes stand where they should, in either kernel.
TEST(GroupedKernel, CodesAreMultipliedAsWholeNumbers) {
  Random random(22);
  for (const MatrixFormat format : {MatrixFormat::kQ8, MatrixFormat::kQ4}) {
    const KernelMatrix w(format, 150, 300, random);
    KernelRows x(70, 300), out(70, 150);
    for (int64_t r = 0; r < 70; ++r)
      for (int64_t k = 0; k < 300; ++k) x.row(r)[k] = static_cast<float>(random.below(255) - 127);
    Aligned<std::byte> scratch(static_cast<int64_t>(many_rows_scratch_bytes(70, 300)));
    linear_many_rows(nullptr, {out.values.data(), x.values.data(), out.stride, x.stride, 70, w.view, nullptr, false,
                               false, scratch.data()});
    for (int64_t r = 0; r < 70; ++r)
      for (int64_t c = 0; c < 150; ++c) {
        const Dot dot(x.row(r), w.row(c), 300);
        ASSERT_NEAR(out.row(r)[c], dot.sum, dot.tolerance(300, true));
      }
  }
}

TEST(GroupedKernel, SortsChoicesInTheirOrder) {
  Random random(23);
  for (const auto& [choices, experts] : {std::pair<int64_t, int64_t>{1, 1}, {7, 64}, {255, 3}, {1000, 64}, {600, 72}}) {
    Aligned<int32_t> expert(choices), first(experts + 1), order(choices), place(choices);
    for (int64_t i = 0; i < choices; ++i) expert[i] = static_cast<int32_t>(random.below(experts));
    sort_choices(nullptr, {expert.data(), choices, experts, first.data(), order.data(), place.data()});
    std::vector<int32_t> expected(static_cast<size_t>(choices));
    for (size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<int32_t>(i);
    std::stable_sort(expected.begin(), expected.end(), [&](int32_t a, int32_t b) { return expert[a] < expert[b]; });
    for (int64_t p = 0; p < choices; ++p) {
      ASSERT_EQ(order[p], expected[static_cast<size_t>(p)]);
      ASSERT_EQ(place[order[p]], p);
      ASSERT_GE(p, first[expert[order[p]]]);
      ASSERT_LT(p, first[expert[order[p]] + 1]);
    }
    EXPECT_EQ(first[0], 0);
    EXPECT_EQ(first[experts], choices);
  }
}

// Hopper's kernel, where it runs.
class WarpgroupKernel : public testing::TestWithParam<GroupedTiles> {
 protected:
  void SetUp() override {
    if (!grouped_warpgroups_run()) GTEST_SKIP() << "no wgmma on this device";
  }
};

struct Bf16Rows {
  int64_t stride;
  Aligned<Bf16Bits> values;
  Bf16Rows(const KernelRows& x) : stride(packed_cols(x.cols)), values(x.rows * stride) {
    pack_rows(nullptr, values.data(), x.values.data(), x.stride, x.rows, x.cols, MatrixFormat::kBf16);
  }
};

TEST_P(WarpgroupKernel, MultipliesManyRowsByOneMatrix) {
  Random random(24);
  struct Size {
    int64_t rows, in, out;
  };
  for (const Size& size : {Size{1, 1, 1}, Size{33, 70, 9}, Size{64, 64, 192}, Size{97, 129, 200}, Size{257, 200, 130},
                           Size{160, 520, 67}, Size{250, 328, 129}}) {
    const KernelMatrix w(MatrixFormat::kBf16, size.out, size.in, random);
    KernelRows x(size.rows, size.in), out(size.rows, size.out);
    x.fill(random);
    const Bf16Rows packed(x);
    Aligned<float> bias(size.out);
    for (int64_t i = 0; i < size.out; ++i) bias[i] = random.normal();
    const bool with_bias = random.below(2) == 1, add = random.below(2) == 1;
    for (int64_t r = 0; add && r < size.rows; ++r)
      for (int64_t c = 0; c < size.out; ++c) out.row(r)[c] = static_cast<float>(r + c);
    Grouped g;
    g.x = packed.values.data(), g.x_stride = packed.stride;
    g.positions = size.rows;
    g.w = w.view;
    g.out = out.values.data(), g.out_stride = out.stride;
    g.bias = with_bias ? bias.data() : nullptr, g.add = add;
    grouped_warpgroups(nullptr, g, GetParam());
    for (int64_t r = 0; r < size.rows; ++r) {
      for (int64_t c = 0; c < size.out; ++c) {
        const Dot dot(x.row(r), w.row(c), size.in);
        const double start =
            (with_bias ? static_cast<double>(bias[c]) : 0.0) + (add ? static_cast<double>(r + c) : 0.0);
        ASSERT_NEAR(out.row(r)[c], start + dot.sum, dot.tolerance(size.in, false) + 4e-7 * std::fabs(start))
            << size.rows << " x " << size.in << " -> " << size.out << " row " << r << " column " << c;
      }
      for (int64_t c = size.out; c < out.stride; ++c) ASSERT_TRUE(std::isnan(out.row(r)[c]));
    }
  }
}

// Experts of all sizes, none and one position among them: through order to hidden, and from hidden to y.
TEST_P(WarpgroupKernel, MultipliesGroupsByTheirOwnMatrices) {
  Random random(25);
  constexpr int64_t kTopK = 2, kWidth = 136;
  for (const int64_t inner : {int64_t{72}, int64_t{150}}) {
    const std::vector<int64_t> counts = {0, 1, 37, 0, 300, 64, 130, 0};
    const auto groups = static_cast<int64_t>(counts.size());
    Aligned<int32_t> first(groups + 1);
    for (int64_t g = 0; g < groups; ++g) first[g + 1] = first[g] + static_cast<int32_t>(counts[static_cast<size_t>(g)]);
    const int64_t positions = first[groups], rows = positions / kTopK;
    Aligned<int32_t> order(positions);
    for (int64_t p = 0; p < positions; ++p) order[p] = static_cast<int32_t>(p);
    for (int64_t p = positions - 1; p > 0; --p) std::swap(order[p], order[random.below(p + 1)]);
    KernelRows x(rows, kWidth), y(positions, kWidth);
    x.fill(random);
    const Bf16Rows packed(x);
    std::vector<std::unique_ptr<KernelMatrix>> matrices;
    Aligned<ExpertPointers> table(groups);
    for (int64_t g = 0; g < groups; ++g) {
      matrices.push_back(std::make_unique<KernelMatrix>(MatrixFormat::kBf16, inner, kWidth, random, 0.1f));
      matrices.push_back(std::make_unique<KernelMatrix>(MatrixFormat::kBf16, inner, kWidth, random, 0.1f));
      matrices.push_back(std::make_unique<KernelMatrix>(MatrixFormat::kBf16, kWidth, inner, random, 0.1f));
      const size_t at = matrices.size() - 3;
      table[g] = {matrices[at]->bytes.data(), matrices[at + 1]->bytes.data(), matrices[at + 2]->bytes.data()};
    }
    const int64_t stride = packed_cols(inner);
    Aligned<Bf16Bits> hidden(positions * stride + 8);
    for (int64_t i = 0; i < hidden.size(); ++i) hidden[i] = 0x7fc0;  // NaN
    Grouped gated;
    gated.x = packed.values.data(), gated.x_stride = packed.stride;
    gated.order = order.data(), gated.top_k = kTopK;
    gated.first = first.data(), gated.groups = groups, gated.positions = positions;
    gated.table = table.data();
    gated.w = gated.v = matrices[0]->view;
    gated.out = hidden.data(), gated.out_stride = stride;
    grouped_warpgroups(nullptr, gated, GetParam());
    Grouped down = gated;
    down.x = hidden.data(), down.x_stride = stride;
    down.order = nullptr, down.top_k = 1;
    down.down = true;
    down.w = matrices[2]->view, down.v = {};
    down.out = y.values.data(), down.out_stride = y.stride;
    grouped_warpgroups(nullptr, down, GetParam());

    for (int64_t i = positions * stride; i < hidden.size(); ++i) ASSERT_EQ(hidden[i], 0x7fc0);
    std::vector<float> middle(static_cast<size_t>(inner));
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t p = first[g]; p < first[g + 1]; ++p) {
        const float* row = x.row(order[p] / kTopK);
        const auto of = [&](int64_t which) -> const KernelMatrix& {
          return *matrices[static_cast<size_t>(3 * g + which)];
        };
        for (int64_t c = 0; c < stride; ++c) {
          const float found = to_float(BF16{hidden[p * stride + c]});
          if (c >= inner) {
            ASSERT_EQ(found, 0.0f) << "position " << p << " column " << c;
            continue;
          }
          const Dot gate(row, of(0).row(c), kWidth), up(row, of(1).row(c), kWidth);
          const double silu = gate.sum / (1 + std::exp(-gate.sum));
          // The slope of silu is 1.1 at most; what is written is rounded to bfloat16.
          ASSERT_NEAR(found, silu * up.sum,
                      1.1 * gate.tolerance(kWidth, false) * (std::fabs(up.sum) + up.tolerance(kWidth, false)) +
                          std::fabs(silu) * up.tolerance(kWidth, false) + 0x1.0p-8 * std::fabs(silu * up.sum))
              << "position " << p << " of group " << g << " column " << c;
          middle[static_cast<size_t>(c)] = found;
        }
        for (int64_t c = 0; c < kWidth; ++c) {
          const Dot dot(middle.data(), of(2).row(c), inner);
          ASSERT_NEAR(y.row(p)[c], dot.sum, dot.tolerance(inner, false)) << "position " << p << " column " << c;
        }
        for (int64_t c = kWidth; c < y.stride; ++c) ASSERT_TRUE(std::isnan(y.row(p)[c]));
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Tiles, WarpgroupKernel,
                         testing::Values(GroupedTiles{2, 256}, GroupedTiles{3, 256}, GroupedTiles{3, 96},
                                         GroupedTiles{}));

}  // namespace
}  // namespace vl2::cuda

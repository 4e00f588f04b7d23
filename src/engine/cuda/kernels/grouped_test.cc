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

}  // namespace
}  // namespace vl2::cuda

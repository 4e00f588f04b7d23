#include "engine/cuda/kernels/linear.h"

#include "core/base/error.h"
#include "engine/cuda/kernels/kernel_test.h"

namespace vl2::cuda {
namespace {

struct Size {
  int64_t rows, in, out;
};
constexpr Size kSizes[] = {{1, 1, 1},     {1, 7, 5},     {2, 64, 48},   {1, 128, 16},  {3, 129, 130}, {1, 2050, 33},
                           {5, 63, 17},   {8, 127, 16},  {9, 192, 33},  {16, 66, 47},  {6, 320, 64},  {7, 65, 31},
                           {17, 100, 49}, {1, 1280, 40}, {4, 588, 100}, {35, 257, 20}, {1, 3000, 3}};

TEST(LinearKernel, MultipliesFewRowsByEveryFormat) {
  Random random(7);
  for (const MatrixFormat format : kAllFormats)
    for (const Size& size : kSizes)
      for (const bool exact : {true, false}) {
        const KernelMatrix w(format, size.out, size.in, random);
        KernelRows x(size.rows, size.in, random.below(2) * 3 + (4 - size.in % 4) % 4), out(size.rows, size.out);
        x.fill(random);
        Aligned<float> bias(size.out);
        for (int64_t i = 0; i < size.out; ++i) bias[i] = random.normal();
        const bool with_bias = random.below(2) == 1, add = random.below(2) == 1;
        for (int64_t r = 0; add && r < size.rows; ++r)
          for (int64_t c = 0; c < size.out; ++c) out.row(r)[c] = static_cast<float>(r + c);
        linear_few_rows(nullptr, {out.values.data(), x.values.data(), out.stride, x.stride, size.rows, w.view,
                                  with_bias ? bias.data() : nullptr, add, exact});
        for (int64_t r = 0; r < size.rows; ++r)
          for (int64_t c = 0; c < size.out; ++c) {
            const Dot dot(x.row(r), w.row(c), size.in);
            const double start =
                (with_bias ? static_cast<double>(bias[c]) : 0.0) + (add ? static_cast<double>(r + c) : 0.0);
            ASSERT_NEAR(out.row(r)[c], start + dot.sum,
                        dot.tolerance(size.in, exact || format == MatrixFormat::kF32) +
                            (exact && format != MatrixFormat::kF32 ? dot.cut_off(size.in) : 0.0) +
                            4e-7 * std::fabs(start))
                << format_name(format) << " " << size.rows << " x " << size.in << " -> " << size.out << " row " << r
                << " column " << c << (exact ? " exact" : "");
          }
        for (int64_t r = 0; r < size.rows; ++r)
          for (int64_t c = size.out; c < out.stride; ++c) ASSERT_TRUE(std::isnan(out.row(r)[c]));
      }
}

TEST(LinearKernel, MultipliesSeveralMatricesAtOnce) {
  Random random(11);
  for (const MatrixFormat format : {MatrixFormat::kBf16, MatrixFormat::kQ8, MatrixFormat::kQ4})
    for (const int64_t rows : {1, 3, 12})
      for (const size_t count : {size_t{2}, size_t{3}}) {
        constexpr int64_t kIn = 200;
        const KernelMatrix ws[] = {{format, 70, kIn, random}, {format, 5, kIn, random}, {format, 33, kIn, random}};
        KernelRows x(rows, kIn, 0), outs[] = {{rows, 70}, {rows, 5}, {rows, 33}};
        x.fill(random);
        Aligned<float> bias(5);
        for (int64_t i = 0; i < 5; ++i) bias[i] = random.normal();
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t c = 0; c < 70; ++c) outs[0].row(r)[c] = 2.0f;
        std::vector<FewRowsLinear> all;
        for (size_t i = 0; i < count; ++i)
          all.push_back({outs[i].values.data(), x.values.data(), outs[i].stride, x.stride, rows, ws[i].view,
                         i == 1 ? bias.data() : nullptr, i == 0, true});
        ASSERT_TRUE(linear_few_rows(nullptr, all));
        for (size_t i = 0; i < count; ++i)
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < ws[i].view.rows; ++c) {
              const Dot dot(x.row(r), ws[i].row(c), kIn);
              const double start = i == 0 ? 2.0 : i == 1 ? static_cast<double>(bias[c]) : 0.0;
              ASSERT_NEAR(outs[i].row(r)[c], start + dot.sum,
                          dot.tolerance(kIn, true) + dot.cut_off(kIn) + 4e-7 * std::fabs(start))
                  << format_name(format) << " matrix " << i << " of " << count << " row " << r << " column " << c;
            }
        all[1].w.cols -= 1;
        EXPECT_FALSE(linear_few_rows(nullptr, all));
      }
}

// Whole numbers have no rounding at all, in either precision: every code stands where it should.
TEST(LinearKernel, CodesAreMultipliedAsWholeNumbers) {
  Random random(8);
  for (const MatrixFormat format : {MatrixFormat::kQ8, MatrixFormat::kQ4}) {
    const KernelMatrix w(format, 70, 300, random);
    KernelRows x(4, 300), out(4, 70);
    for (int64_t r = 0; r < 4; ++r)
      for (int64_t k = 0; k < 300; ++k) x.row(r)[k] = static_cast<float>(random.below(255) - 127);
    linear_few_rows(nullptr,
                    {out.values.data(), x.values.data(), out.stride, x.stride, 4, w.view, nullptr, false, false});
    for (int64_t r = 0; r < 4; ++r)
      for (int64_t c = 0; c < 70; ++c) {
        const Dot dot(x.row(r), w.row(c), 300);
        ASSERT_NEAR(out.row(r)[c], dot.sum, dot.tolerance(300, true));
      }
  }
}

TEST(LinearKernel, GatedBlocksAreTheirParts) {
  Random random(9);
  for (const MatrixFormat format : {MatrixFormat::kBf16, MatrixFormat::kQ8, MatrixFormat::kQ4})
    for (const Size& size : {Size{1, 130, 33}, Size{9, 65, 50}, Size{18, 72, 16}}) {
      const KernelMatrix gate(format, size.out, size.in, random, 0.2f), up(format, size.out, size.in, random, 0.2f);
      KernelRows x(size.rows, size.in), out(size.rows, size.out);
      x.fill(random, 0.7f);
      gated_few_rows(nullptr,
                     {out.values.data(), x.values.data(), out.stride, x.stride, size.rows, gate.view, up.view, true});
      for (int64_t r = 0; r < size.rows; ++r)
        for (int64_t c = 0; c < size.out; ++c) {
          const Dot g(x.row(r), gate.row(c), size.in), u(x.row(r), up.row(c), size.in);
          const double expected = g.sum / (1 + std::exp(-g.sum)) * u.sum;
          const double allowed = g.tolerance(size.in, true) * 1.1 * std::fabs(u.sum) +
                                 u.tolerance(size.in, true) * std::fabs(g.sum) + 4e-7 * std::fabs(expected) + 1e-7;
          ASSERT_NEAR(out.row(r)[c], expected, allowed) << format_name(format) << " row " << r << " column " << c;
        }
    }
}

TEST(LinearKernel, DequantisesPanels) {
  Random random(10);
  for (const MatrixFormat format : kAllFormats)
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {17, 129}, {48, 200}, {33, 64}}) {
      const KernelMatrix w(format, rows, cols, random);
      const int64_t stride = (cols + 7) / 8 * 8 + 8;
      Aligned<float> wide(rows * stride);
      Aligned<Bf16Bits> narrow(rows * stride);
      for (int64_t i = 0; i < wide.size(); ++i) wide[i] = 9, narrow[i] = 9;
      dequantise(nullptr, wide.data(), stride, w.view);
      dequantise(nullptr, narrow.data(), stride, w.view);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t k = 0; k < stride; ++k) {
          const float expected = k < cols ? w.row(r)[k] : 0.0f;
          ASSERT_EQ(wide[r * stride + k], expected) << format_name(format) << " " << r << " " << k;
          ASSERT_EQ(narrow[r * stride + k], to_bf16(expected).bits);
        }
    }
}

}  // namespace
}  // namespace vl2::cuda

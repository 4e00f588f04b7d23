#include "engine/cuda/kernels/experts.h"

#include <algorithm>
#include <cstring>

#include "engine/cuda/kernels/kernel_test.h"

namespace vl2::cuda {
namespace {

struct Mlp {
  KernelMatrix gate, up, down;
  Mlp(MatrixFormat format, int64_t inner, int64_t width, Random& random)
      : gate(format, inner, width, random, 0.3f),
        up(format, inner, width, random, 0.3f),
        down(format, width, inner, random, 0.3f) {}

  // What it makes of a row, and how far off float32 (or bfloat16 factors) may be.
  void apply(const float* x, double weight, bool exact, std::vector<double>& out, std::vector<double>& error) const {
    const int64_t inner = gate.view.rows, width = gate.view.cols;
    std::vector<double> hidden(static_cast<size_t>(inner)), off(hidden.size());
    for (int64_t i = 0; i < inner; ++i) {
      const Dot g(x, gate.row(i), width), u(x, up.row(i), width);
      const double silu = g.sum / (1 + std::exp(-g.sum));
      hidden[static_cast<size_t>(i)] = silu * u.sum;
      off[static_cast<size_t>(i)] = 1.1 * g.tolerance(width, exact) * std::fabs(u.sum) +
                                    u.tolerance(width, exact) * std::fabs(silu) +
                                    (exact ? 1e-6 : 0x1.0p-8) * std::fabs(silu * u.sum);
    }
    // Errors of the hidden values are independent: their squares add up; three times a bound is more than enough.
    for (int64_t d = 0; d < width; ++d) {
      double sum = 0, square = 0, product = 0;
      for (int64_t i = 0; i < inner; ++i) {
        const auto w = static_cast<double>(down.row(d)[i]);
        sum += w * hidden[static_cast<size_t>(i)];
        const double error_of = w * off[static_cast<size_t>(i)], part = w * hidden[static_cast<size_t>(i)];
        square += error_of * error_of;
        product += part * part;
      }
      out[static_cast<size_t>(d)] += weight * sum;
      error[static_cast<size_t>(d)] +=
          std::fabs(weight) * (3 * std::sqrt(square) + 1e-6 * std::sqrt(product) + 2e-6 * std::fabs(sum));
    }
  }
};

struct Case {
  int64_t rows, width, inner, experts, top_k, shared;
};

TEST(ExpertsKernel, SumsChosenAndSharedExperts) {
  Random random(31);
  for (const MatrixFormat format : kAllFormats)
    for (const Case& c : {Case{1, 33, 17, 4, 2, 0}, Case{1, 130, 40, 16, 6, 70}, Case{3, 64, 48, 8, 6, 96},
                          Case{12, 100, 31, 6, 3, 15}, Case{16, 40, 129, 3, 2, 0}, Case{40, 100, 31, 6, 3, 70},
                          Case{131, 72, 50, 3, 3, 0}, Case{30, 65, 97, 64, 6, 33}})
      for (const bool exact : {true, false}) {
        std::vector<Mlp> mlps;
        Aligned<ExpertPointers> table(c.experts);
        for (int64_t e = 0; e < c.experts; ++e) mlps.emplace_back(format, c.inner, c.width, random);
        for (int64_t e = 0; e < c.experts; ++e) {
          const Mlp& mlp = mlps[static_cast<size_t>(e)];
          table[e] = {mlp.gate.view.data, mlp.up.view.data, mlp.down.view.data};
        }
        const Mlp shared(format, std::max<int64_t>(c.shared, 1), c.width, random);
        KernelRows x(c.rows, c.width, random.below(2) * 3 + (4 - c.width % 4) % 4), out(c.rows, c.width);
        x.fill(random, 0.5f);
        Aligned<int32_t> expert(c.rows * c.top_k), counters(experts_counters(c.width));
        Aligned<float> weight(c.rows * c.top_k);
        for (int64_t r = 0; r < c.rows; ++r) {
          std::vector<int32_t> all(static_cast<size_t>(c.experts));
          for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
          for (size_t i = 0; i < static_cast<size_t>(c.top_k); ++i)
            std::swap(all[i], all[i + static_cast<size_t>(random.below(c.experts - static_cast<int64_t>(i)))]);
          std::sort(all.begin(), all.begin() + c.top_k);
          for (int64_t i = 0; i < c.top_k; ++i) {
            expert[r * c.top_k + i] = all[static_cast<size_t>(i)];
            weight[r * c.top_k + i] = 0.1f + static_cast<float>(random.uniform());
          }
        }
        Experts args;
        args.out = out.values.data(), args.out_stride = out.stride;
        args.x = x.values.data(), args.x_stride = x.stride;
        args.rows = c.rows;
        args.expert = expert.data(), args.weight = weight.data(), args.top_k = c.top_k;
        const Mlp& one = mlps[0];
        args.routed = {table.data(), c.experts, format, c.width, c.inner, one.gate.view.stride, one.down.view.stride};
        if (c.shared > 0)
          args.shared_gate = shared.gate.view, args.shared_up = shared.up.view, args.shared_down = shared.down.view;
        args.exact = exact;
        Aligned<std::byte> scratch(static_cast<int64_t>(experts_scratch_bytes(args)));
        std::memset(scratch.data(), 0xff, static_cast<size_t>(scratch.size()));
        args.scratch = scratch.data();
        args.counters = counters.data();
        experts(nullptr, args);
        const std::vector<float> before(out.values.data(), out.values.data() + out.values.size());
        experts(nullptr, args);
        EXPECT_EQ(std::memcmp(before.data(), out.values.data(), before.size() * sizeof(float)), 0);
        for (int64_t i = 0; i < counters.size(); ++i) ASSERT_EQ(counters[i], 0);
        for (int64_t r = 0; r < c.rows; ++r) {
          std::vector<double> sum(static_cast<size_t>(c.width)), error(sum.size());
          const bool fine = exact || format == MatrixFormat::kF32;
          for (int64_t i = 0; i < c.top_k; ++i)
            mlps[static_cast<size_t>(expert[r * c.top_k + i])].apply(
                x.row(r), static_cast<double>(weight[r * c.top_k + i]), fine, sum, error);
          if (c.shared > 0) shared.apply(x.row(r), 1, fine, sum, error);
          for (int64_t d = 0; d < c.width; ++d)
            ASSERT_NEAR(out.row(r)[d], sum[static_cast<size_t>(d)], error[static_cast<size_t>(d)] + 1e-6)
                << format_name(format) << " " << c.rows << " rows, " << c.experts << " experts, row " << r << " column "
                << d << (exact ? " exact" : "");
        }
      }
}

}  // namespace
}  // namespace vl2::cuda

#include "engine/cuda/kernels/flash_warpgroups.h"

#include "engine/cuda/kernels/attention_case_test.h"
#include "engine/cuda/kernels/kernel_test.h"
#include "engine/cuda/kernels/warpgroup_probe.h"

namespace vl2::cuda {
namespace {

Bf16Bits random_bits(Random& random) { return to_bf16(2.0f * random.symmetric()).bits; }
double value_of(Bf16Bits bits) { return static_cast<double>(to_float(BF16{bits})); }

// Alone, because all else rests on where the hardware looks for the right factor.
TEST(WarpgroupProduct, FindsRowsOfTheRightFactor) {
  if (!flash_warpgroups_run()) GTEST_SKIP() << "no wgmma";
  Random random(3);
  for (const int columns : kProbeColumns)
    for (const bool split : {false, true}) {
      if (split && columns != 80) continue;
      Aligned<Bf16Bits> a(64 * kProbeDepth), b(kProbeDepth * columns);
      for (int64_t i = 0; i < a.size(); ++i) a[i] = to_bf16(static_cast<float>(random.below(16))).bits;
      for (int64_t i = 0; i < b.size(); ++i) b[i] = to_bf16(static_cast<float>(random.below(16))).bits;
      Aligned<float> out(64 * columns);
      probe_rows_product(out.data(), a.data(), b.data(), columns, split, nullptr);
      int wrong = 0;
      for (int i = 0; i < 64; ++i)
        for (int j = 0; j < columns; ++j) {
          double sum = 1;
          for (int k = 0; k < kProbeDepth; ++k) sum += value_of(a[i * kProbeDepth + k]) * value_of(b[k * columns + j]);
          if (static_cast<double>(out[i * columns + j]) != sum && ++wrong <= 8)
            ADD_FAILURE() << columns << " columns, split " << split << ": (" << i << ", " << j << ") is "
                          << out[i * columns + j] << " and not " << sum;
        }
      EXPECT_EQ(wrong, 0) << columns << " columns, split " << split;
    }
}

struct Shape {
  int32_t items, rows, keys, heads, groups, size, v;
  bool causal;
  int32_t gap;     // behind each row of queries and outputs
  bool bf16_rows;  // queries and outputs in bfloat16
  bool in_place;   // all three as a product leaves them: [rows][q | k | v]
};

void PrintTo(const Shape& s, std::ostream* out) {
  *out << s.items << " items of " << s.rows << " rows that read " << s.keys << " keys, " << s.heads << " heads over "
       << s.groups << " of " << s.size << " and " << s.v << (s.causal ? ", causal" : "") << ", gap " << s.gap
       << (s.bf16_rows ? ", rows in bfloat16" : "") << (s.in_place ? ", in place" : "");
}

class FlashWarpgroups : public testing::TestWithParam<Shape> {
 protected:
  static constexpr float kScale = 0.31f;

  FlashWarpgroups()
      : q_bits_(s_.in_place ? 3 * width_ * s_.items * s_.rows : s_.items * s_.rows * q_stride()),
        q_floats_(q_bits_.size()),
        k_(key_rows_ * sizes_.size),
        v_(key_rows_ * sizes_.v),
        out_(s_.items * s_.rows * out_stride() + 64),
        out_bits_(out_.size()) {
    Random random(7);
    for (int64_t i = 0; i < q_bits_.size(); ++i) {
      q_bits_[i] = random_bits(random);
      q_floats_[i] = to_float(BF16{q_bits_[i]});
    }
    for (int64_t i = 0; i < key_rows_; ++i) {
      for (int32_t d = 0; d < s_.size; ++d) k_[i * sizes_.size + d] = random_bits(random);
      for (int32_t d = 0; d < s_.v; ++d) v_[i * sizes_.v + d] = random_bits(random);
    }
    a_ = {.out = {nullptr, s_.items * s_.rows, s_.heads, s_.v, out_stride(), s_.v},
          .q = {nullptr, s_.items * s_.rows, s_.heads, s_.size, q_stride(), s_.size},
          .k = k_.data(),
          .v = v_.data(),
          .bf16 = true,
          .items = s_.items,
          .groups = s_.groups,
          .rows = s_.rows,
          .keys = s_.keys,
          .padded_size = sizes_.size,
          .padded_v = sizes_.v,
          .causal = s_.causal,
          .past = s_.causal ? s_.keys - s_.rows : 0,
          .scale = kScale};
    if (s_.in_place) {
      a_.k = q_bits_.data() + width_;
      a_.v = q_bits_.data() + 2 * width_;
      a_.k_layout = a_.v_layout = {3 * width_ * s_.rows, s_.size, 3 * width_, s_.size};
    }
    if (s_.bf16_rows) {
      a_.q_bf16 = q_bits_.data();
      a_.out_bf16 = out_bits_.data();
    } else {
      a_.q.data = q_floats_.data();
      a_.out.data = out_.data();
    }
    for (int32_t item = 0; item < s_.items; ++item)
      for (int32_t row = 0; row < s_.rows; ++row)
        for (int32_t h = 0; h < s_.heads; ++h) expect_row(item, row, h);
  }

  int64_t q_stride() const { return s_.in_place ? 3 * width_ : s_.heads * s_.size + s_.gap; }
  int64_t out_stride() const { return s_.heads * s_.v + s_.gap; }

  double key(int32_t item, int32_t group, int64_t j, int64_t d) const {
    if (s_.in_place) return value_of(q_bits_[(item * s_.rows + j) * 3 * width_ + width_ + group * s_.size + d]);
    return value_of(k_[((item * s_.groups + group) * s_.keys + j) * sizes_.size + d]);
  }
  double value(int32_t item, int32_t group, int64_t j, int64_t d) const {
    if (s_.in_place) return value_of(q_bits_[(item * s_.rows + j) * 3 * width_ + 2 * width_ + group * s_.size + d]);
    return value_of(v_[((item * s_.groups + group) * s_.keys + j) * sizes_.v + d]);
  }

  void expect_row(int32_t item, int32_t row, int32_t h) {
    const int32_t g = h / (s_.heads / s_.groups);
    const auto p = softmax_weights(
        s_.causal ? a_.past + row + 1 : s_.keys, s_.size, static_cast<double>(kScale),
        [&](int64_t d) { return value_of(q_bits_[(item * s_.rows + row) * q_stride() + h * s_.size + d]); },
        [&](int64_t j, int64_t d) { return key(item, g, j, d); });
    for (int32_t d = 0; d < s_.v; ++d) {
      double sum = 0;
      for (size_t j = 0; j < p.size(); ++j) sum += p[j] * value(item, g, static_cast<int64_t>(j), d);
      expected_.push_back(sum);
    }
  }

  void run() {
    for (int64_t i = 0; i < out_.size(); ++i) out_[i] = -7.0f, out_bits_[i] = to_bf16(-7.0f).bits;
    flash_warpgroups(a_, nullptr);
    // Weights sum to one and values are at most 2: a weight's rounding is at most 2^-9 of it, and so is the output's.
    const double tolerance = (s_.bf16_rows ? 4.0 : 2.0) / 512 + 1e-4;
    const auto written = [&](int64_t at) {
      return s_.bf16_rows ? value_of(out_bits_[at]) : static_cast<double>(out_[at]);
    };
    const int64_t used = s_.heads * s_.v;
    int wrong = 0;
    for (int64_t row = 0; row < s_.items * s_.rows; ++row) {
      for (int64_t i = 0; i < used; ++i) {
        const double is = written(row * out_stride() + i), expected = expected_[static_cast<size_t>(row * used + i)];
        if (!(std::abs(is - expected) <= tolerance) && ++wrong <= 4)
          ADD_FAILURE() << "row " << row << " head " << i / s_.v << " column " << i % s_.v << " is " << is
                        << " and not " << expected;
      }
      for (int64_t i = used; i < out_stride(); ++i)
        ASSERT_EQ(written(row * out_stride() + i), -7.0) << "behind " << row;
    }
    for (int64_t i = s_.items * s_.rows * out_stride(); i < out_.size(); ++i) ASSERT_EQ(written(i), -7.0);
    ASSERT_EQ(wrong, 0);
  }

  const Shape s_ = GetParam();
  const FlashSizes sizes_ = flash_sizes(s_.size, s_.v, true);
  const int64_t width_ = s_.heads * s_.size, key_rows_ = int64_t{s_.items} * s_.groups * s_.keys;
  Aligned<Bf16Bits> q_bits_;
  Aligned<float> q_floats_;
  Aligned<Bf16Bits> k_, v_;
  Aligned<float> out_;
  Aligned<Bf16Bits> out_bits_;
  FlashAttention a_;
  std::vector<double> expected_;
};

TEST_P(FlashWarpgroups, IsAttention) {
  if (!flash_warpgroups_run()) GTEST_SKIP() << "no wgmma";
  run();
}

constexpr bool kCausal = true, kFull = false, kBf16 = true, kFloat = false, kInPlace = true, kPacked = false;

INSTANTIATE_TEST_SUITE_P(Shapes, FlashWarpgroups,
                         testing::Values(Shape{1, 1, 1, 1, 1, 72, 72, kFull, 3, kFloat, kPacked},
                                         Shape{2, 133, 133, 2, 2, 72, 72, kFull, 0, kBf16, kInPlace},
                                         Shape{1, 193, 193, 1, 1, 80, 80, kFull, 0, kBf16, kInPlace},
                                         Shape{1, 65, 300, 2, 1, 80, 80, kFull, 8, kFloat, kPacked},
                                         Shape{2, 63, 129, 2, 2, 45, 77, kFull, 3, kFloat, kPacked},
                                         Shape{1, 129, 190, 2, 1, 72, 72, kCausal, 2, kBf16, kPacked},
                                         Shape{1, 1, 64, 2, 2, 128, 128, kCausal, 8, kFloat, kPacked},
                                         Shape{2, 129, 129, 2, 1, 128, 128, kCausal, 8, kFloat, kPacked},
                                         Shape{1, 70, 327, 2, 1, 128, 128, kCausal, 3, kFloat, kPacked},
                                         Shape{1, 64, 128, 1, 1, 100, 90, kFull, 2, kBf16, kPacked},
                                         Shape{1, 130, 230, 2, 2, 192, 128, kCausal, 8, kFloat, kPacked},
                                         Shape{1, 65, 65, 3, 1, 192, 128, kCausal, 0, kBf16, kPacked}));

}  // namespace
}  // namespace vl2::cuda

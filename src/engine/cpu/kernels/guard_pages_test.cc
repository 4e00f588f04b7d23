// The kernels that compute, between pages that nobody may touch: buffers end where the next page begins, or begin where
// one ends, and are not a byte longer than the kernel was promised. Sanitizers do not see what inline assembly reads;
// this does. Results are compared with sums in double, so that a kernel that reads nothing fails too.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <new>
#include <vector>

#include "core/base/random.h"
#include "engine/cpu/kernels/select_kernels.h"
#include "engine/cpu/packed_weights.h"

namespace vl2::cpu {
namespace {

// n values between two pages without any rights. Where: against the page behind them, or the page before.
enum class Where { kEnd, kBegin };
template <typename T>
class Guarded {
 public:
  // alignment: what the kernels were promised for the first byte.
  Guarded(Where where, int64_t n, size_t alignment = sizeof(T)) : count_(n) {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    const size_t bytes = static_cast<size_t>(n) * sizeof(T), room = (bytes + page) / page * page;
    length_ = room + 2 * page;
    void* memory = ::mmap(nullptr, length_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<std::byte*>(memory);
    if (::mprotect(memory_ + page, room, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    const size_t begin = where == Where::kBegin ? 0 : (room - bytes) / alignment * alignment;
    data_ = reinterpret_cast<T*>(memory_ + page + begin);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { ::munmap(memory_, length_); }

  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }
  Guarded& fill(Random& random, float from = -1.0f) {
    for (int64_t i = 0; i < count_; ++i) {
      const float x = random.symmetric();
      const float value = from < 0 ? x : std::abs(x);
      if constexpr (sizeof(T) == sizeof(float)) {
        data_[i] = value;
      } else {
        data_[i] = to_bf16(value);
      }
    }
    return *this;
  }

 private:
  int64_t count_;
  size_t length_;
  std::byte* memory_;
  T* data_;
};

float value(float x) { return x; }
float value(BF16 x) { return to_float(x); }

class GuardPages : public testing::TestWithParam<Isa> {
 protected:
  const KernelTable& kernels_ = select_kernels(GetParam());
  Random random_{7};
};

TEST(GuardPagesDeathTest, WhatLiesBeyondCannotBeRead) {
  const Guarded<float> end(Where::kEnd, 7), begin(Where::kBegin, 7);
  const volatile float* last = end.data() + 6;
  const volatile float* first = begin.data();
  EXPECT_EQ(last[0] + first[0], 0.0f);
  EXPECT_DEATH(std::printf("%g", last[1]), "");
  EXPECT_DEATH(std::printf("%g", first[-1]), "");
}

// --- products ---

struct Kind {
  Format format;
  const GemmKernel& kernel;
  double rounding;  // of an activation, as a part of the largest of its group
};

// Panels of a random matrix [rows, cols], and what they mean.
struct Panels {
  Guarded<std::byte> bytes;
  std::vector<float> values;

  Panels(Where where, Format format, int64_t rows, int64_t cols, Random& random)
      : bytes(where, round_up(rows, kPanel) / kPanel * panel_bytes_of(format, cols), 64) {
    values.resize(static_cast<size_t>(rows * cols));
    for (float& x : values) x = random.symmetric();
    for (int64_t panel = 0; panel * kPanel < rows; ++panel) {
      const int64_t first = panel * kPanel, count = std::min(kPanel, rows - first);
      std::byte* to = bytes.data() + panel * panel_bytes_of(format, cols);
      if (format == Format::kF32) {
        for (int64_t i = 0; i < cols * kPanel; ++i)
          reinterpret_cast<float*>(to)[i] =
              i % kPanel < count ? values[static_cast<size_t>((first + i % kPanel) * cols + i / kPanel)] : 0.0f;
      } else {
        encode_panel(stored(format), &values[static_cast<size_t>(first * cols)], cols, count, cols, nullptr, to);
      }
    }
    if (format == Format::kF32) return;
    const PanelMatrix matrix{stored(format), rows, cols, bytes.data()};
    for (int64_t r = 0; r < rows; ++r) decode_row(matrix, r, &values[static_cast<size_t>(r * cols)]);
  }
  static PanelFormat stored(Format format) {
    return format == Format::kBf16 ? PanelFormat::kBf16 : format == Format::kQ8 ? PanelFormat::kQ8 : PanelFormat::kQ4;
  }
  static int64_t panel_bytes_of(Format format, int64_t cols) {
    return format == Format::kF32 ? cols * kPanel * static_cast<int64_t>(sizeof(float))
                                  : vl2::panel_bytes(stored(format), cols);
  }
};

void check_product(const Kind& kind, Where where, int64_t rows, int64_t columns, int64_t k, Random& random) {
  SCOPED_TRACE(testing::Message() << "format " << static_cast<int>(kind.format) << ": " << rows << " rows, " << columns
                                  << " columns, depth " << k);
  const Panels w(where, kind.format, columns, k, random);
  Guarded<float> x(where, rows * k), c(where, rows * columns), bias(where, columns);
  Guarded<int32_t> index(where, rows);
  for (int64_t r = 0; r < rows; ++r) index[r] = static_cast<int32_t>(rows - 1 - r);
  x.fill(random);
  bias.fill(random);
  c.fill(random);
  const std::vector<float> before(c.data(), c.data() + rows * columns);
  Guarded<std::byte> a(where, kind.kernel.packed_a_bytes(rows, k), 64);
  Guarded<float> scratch(where, gemm_scratch_floats(rows), 64);
  kind.kernel.pack_a(x.data(), k, index.data(), rows, k, a.data());
  kind.kernel.run({a.data(), rows, w.bytes.data(), num_panels(columns), k, c.data(), columns, columns, bias.data(),
                   Epilogue::kAdd, scratch.data()});
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t n = 0; n < columns; ++n) {
      double sum = before[static_cast<size_t>(r * columns + n)] + bias[n], size = 2;
      for (int64_t i = 0; i < k; ++i) {
        const double weight = w.values[static_cast<size_t>(n * k + i)];
        sum += weight * x[(rows - 1 - r) * k + i];
        size += std::abs(weight);
      }
      ASSERT_NEAR(c[r * columns + n], sum, size * (kind.rounding + 1e-6)) << "row " << r << ", column " << n;
    }
}

TEST_P(GuardPages, Products) {
  // Values are below 1: float32 rounds nothing, bf16 by 2^-9, a group of bytes by half of 1 / 127.
  const Kind kinds[] = {{Format::kF32, kernels_.f32, 0},
                        {Format::kBf16, kernels_.bf16_f32, 0},
                        {Format::kBf16, kernels_.bf16, 0x1p-9},
                        {Format::kQ8, kernels_.q8, 0.5 / 127},
                        {Format::kQ4, kernels_.q4, 0.5 / 127}};
  for (const Kind& kind : kinds)
    for (const Where where : {Where::kEnd, Where::kBegin})
      for (const int64_t rows : {1, 2, 5, 12, 13, 49})
        for (const int64_t columns : {1, 16, 40, 112})
          for (const int64_t k : {1, 33, 64, 130, 300}) check_product(kind, where, rows, columns, k, random_);
}

// --- rows of a cache ---

template <typename T, typename Dot, typename Mix>
void check_cache_rows(Dot dot, Mix mix, Where where, int64_t queries, int64_t n, int64_t width, Random& random) {
  Guarded<float> q(where, queries * width), scores(where, queries * n), out(where, queries * width);
  Guarded<T> rows(where, n * width);
  q.fill(random);
  rows.fill(random);
  out.fill(random);
  const std::vector<float> before(out.data(), out.data() + queries * width);
  dot(q.data(), width, queries, rows.data(), width, n, width, scores.data(), n, Leap{});
  mix(scores.data(), n, queries, rows.data(), width, n, width, out.data(), width, Leap{});
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t d = 0; d < width; ++d) sum += static_cast<double>(q[i * width + d]) * value(rows[j * width + d]);
      ASSERT_NEAR(scores[i * n + j], sum, 1e-6 * static_cast<double>(width));
    }
    for (int64_t d = 0; d < width; ++d) {
      double sum = before[static_cast<size_t>(i * width + d)], size = 1;
      for (int64_t j = 0; j < n; ++j) {
        sum += static_cast<double>(scores[i * n + j]) * value(rows[j * width + d]);
        size += std::abs(scores[i * n + j]);
      }
      ASSERT_NEAR(out[i * width + d], sum, 1e-6 * size);
    }
  }
}

TEST_P(GuardPages, RowsOfACache) {
  for (const Where where : {Where::kEnd, Where::kBegin})
    for (const int64_t queries : {1, 3, 10})
      for (const int64_t n : {1, 5, 33})
        for (const int64_t width : {1, 15, 64, 72, 130}) {
          check_cache_rows<float>(kernels_.dot_rows_f32, kernels_.mix_rows_f32, where, queries, n, width, random_);
          check_cache_rows<BF16>(kernels_.dot_rows_bf16, kernels_.mix_rows_bf16, where, queries, n, width, random_);
        }
}

// --- attention with queries in the lanes ---

// Keys of `size`, whose first v_size values are also the values, in runs that are buffers of their own.
template <typename T>
struct Runs {
  std::vector<std::unique_ptr<Guarded<T>>> memory;
  std::vector<const T*> runs;
  int64_t run, size;

  Runs(Where where, int64_t n, int64_t run_rows, int64_t row_size, Random& random) : run(run_rows), size(row_size) {
    for (int64_t j = 0; j < n; j += run) {
      memory.push_back(std::make_unique<Guarded<T>>(where, std::min(run, n - j) * size));
      memory.back()->fill(random);
      runs.push_back(memory.back()->data());
    }
  }
  double at(int64_t j, int64_t d) const { return value(runs[static_cast<size_t>(j / run)][j % run * size + d]); }
};

// rounded: what the kernel makes of queries and weights before it multiplies. scores and mix: the kernels.
template <typename T, typename Scores, typename Mix>
void check_lanes(const Runs<T>& keys, Where where, int64_t vectors, int64_t n, int64_t v_size, bool rounded,
                 Random& random, Scores scores, Mix mix) {
  SCOPED_TRACE(testing::Message() << n << " keys of " << keys.size << " in runs of " << keys.run << ", " << vectors
                                  << " vectors");
  const int64_t lanes = vectors * kPanel, size = keys.size;
  Guarded<float> q(where, size * lanes), s(where, n * lanes), p(where, n * lanes), factor(where, lanes),
      out(where, v_size * lanes);
  q.fill(random);
  p.fill(random, 0.0f);
  factor.fill(random, 0.0f);
  out.fill(random);
  const std::vector<float> before(out.data(), out.data() + v_size * lanes);
  scores(q.data(), s.data());
  mix(p.data(), factor.data(), out.data());
  const auto place = [&](int64_t d, int64_t l) { return rounded ? l * v_size + d : d * lanes + l; };  // of a mix
  const auto seen = [&](float x) { return static_cast<double>(rounded ? to_float(to_bf16(x)) : x); };
  for (int64_t l = 0; l < lanes; ++l) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t d = 0; d < size; ++d) sum += seen(q[d * lanes + l]) * keys.at(j, d);
      ASSERT_NEAR(s[j * lanes + l], sum, 1e-6 * static_cast<double>(size)) << "key " << j << ", lane " << l;
    }
    for (int64_t d = 0; d < v_size; ++d) {
      double sum = static_cast<double>(factor[l]) * before[static_cast<size_t>(place(d, l))];
      for (int64_t j = 0; j < n; ++j) sum += seen(p[j * lanes + l]) * keys.at(j, d);
      ASSERT_NEAR(out[place(d, l)], sum, 1e-6 * static_cast<double>(n + 1)) << "column " << d << ", lane " << l;
    }
  }
}

TEST_P(GuardPages, QueriesInLanes) {
  for (const Where where : {Where::kEnd, Where::kBegin})
    for (int64_t vectors = 1; vectors <= kernels_.query_vectors; ++vectors)
      for (const int64_t n : {1, 2, 15, 33, 255})
        for (const int64_t size : {1, 7, 40, 83})
          for (const int64_t run : {5, 16}) {
            const int64_t v_size = size > 4 ? size - 3 : size;
            const Runs<float> keys(where, n, run, size, random_);
            const RowRuns rows{keys.runs.data(), run, n, 0, size};
            check_lanes(
                keys, where, vectors, n, v_size, false, random_,
                [&](const float* q, float* s) { kernels_.attend_scores(q, vectors, rows, 0, n, size, s); },
                [&](const float* p, const float* factor, float* out) {
                  kernels_.attend_mix(p, vectors, rows, 0, n, v_size, factor, out);
                });
          }
}

TEST_P(GuardPages, SoftmaxOfLanes) {
  for (const Where where : {Where::kEnd, Where::kBegin})
    for (const int64_t vectors : {1, 2, 3})
      for (const int64_t n : {1, 7, 256}) {
        const int64_t lanes = vectors * kPanel;
        Guarded<float> s(where, n * lanes), top(where, lanes), sum(where, lanes), factor(where, lanes);
        s.fill(random_);
        top.fill(random_);
        sum.fill(random_, 0.0f);
        const std::vector<float> scores(s.data(), s.data() + n * lanes), tops(top.data(), top.data() + lanes),
            sums(sum.data(), sum.data() + lanes);
        kernels_.attend_softmax(s.data(), vectors, n, top.data(), sum.data(), factor.data());
        for (int64_t l = 0; l < lanes; ++l) {
          const auto at = [&](int64_t j) { return static_cast<double>(scores[static_cast<size_t>(j * lanes + l)]); };
          double highest = tops[static_cast<size_t>(l)];
          for (int64_t j = 0; j < n; ++j) highest = std::max(highest, at(j));
          const double shrunk = std::exp2(tops[static_cast<size_t>(l)] - highest);
          double whole = sums[static_cast<size_t>(l)] * shrunk;
          for (int64_t j = 0; j < n; ++j) {
            whole += std::exp2(at(j) - highest);
            ASSERT_NEAR(s[j * lanes + l], std::exp2(at(j) - highest), 1e-6);
          }
          ASSERT_NEAR(top[l], highest, 0);
          ASSERT_NEAR(factor[l], shrunk, 1e-6);
          ASSERT_NEAR(sum[l], whole, 1e-6 * static_cast<double>(n + 1));
        }
      }
}

TEST_P(GuardPages, QueriesInLanesOverBf16RowsAsTheyLie) {
  if (kernels_.attend_scores_bf16 == nullptr) return;  // these kernels widen such rows first
  for (const Where where : {Where::kEnd, Where::kBegin})
    for (int64_t vectors = 1; vectors <= kernels_.query_vectors; ++vectors)
      for (const int64_t n : {1, 2, 15, 33, 255, 256})
        for (const int64_t size : {1, 7, 40, 83})
          for (const int64_t run : {5, 16}) {
            const int64_t v_size = size > 4 ? size - 3 : size;
            const Runs<BF16> keys(where, n, run, size, random_);
            const Bf16Runs rows{keys.runs.data(), run, n, 0, size};
            Guarded<std::byte> queries(where, bf16_query_bytes(vectors, size), 64);
            check_lanes(
                keys, where, vectors, n, v_size, true, random_,
                [&](const float* q, float* s) {
                  kernels_.attend_queries_bf16(q, vectors, size, queries.data());
                  kernels_.attend_scores_bf16(queries.data(), vectors, rows, 0, n, size, s);
                },
                [&](const float* p, const float* factor, float* out) {
                  kernels_.attend_mix_bf16(p, vectors, rows, 0, n, v_size, factor, out);
                });
          }
}

// --- single rows ---

TEST_P(GuardPages, Rows) {
  for (const Where where : {Where::kEnd, Where::kBegin})
    for (const int64_t n : {1, 7, 15, 16, 17, 31, 33, 100}) {
      SCOPED_TRACE(testing::Message() << n << " values");
      Guarded<float> x(where, n), y(where, n), weight(where, n), out(where, n);
      Guarded<BF16> half(where, n);
      double squares = 0, mean = 0, variance = 0;
      const auto again = [&] {
        x.fill(random_);
        y.fill(random_);
        weight.fill(random_);
        squares = mean = variance = 0;
        for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(x[i]) * x[i], mean += x[i];
        mean /= static_cast<double>(n);
        for (int64_t i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean);
      };
      const auto expect = [&](const Guarded<float>& values, auto&& formula, double tolerance = 1e-5) {
        for (int64_t i = 0; i < n; ++i) ASSERT_NEAR(values[i], formula(i), tolerance) << i;
      };
      const auto count = static_cast<double>(n);
      again();
      kernels_.rms_norm_row(out.data(), x.data(), weight.data(), n, 1e-6f);
      expect(out, [&](int64_t i) { return x[i] / std::sqrt(squares / count + 1e-6) * weight[i]; });
      kernels_.layer_norm_row(out.data(), x.data(), weight.data(), y.data(), n, 1e-3f);
      expect(out, [&](int64_t i) { return (x[i] - mean) / std::sqrt(variance / count + 1e-3) * weight[i] + y[i]; });
      std::vector<float> before(x.data(), x.data() + n);
      const auto was = [&](int64_t i) { return static_cast<double>(before[static_cast<size_t>(i)]); };
      kernels_.add_row(x.data(), y.data(), n);
      expect(x, [&](int64_t i) { return was(i) + y[i]; });
      kernels_.add_scaled_row(x.data(), y.data(), 0.5f, n);
      expect(x, [&](int64_t i) { return was(i) + 1.5 * y[i]; });
      kernels_.scale_row(x.data(), n, 2.0f);
      expect(x, [&](int64_t i) { return 2 * was(i) + 3.0 * y[i]; });
      kernels_.to_bf16_row(half.data(), y.data(), n);
      kernels_.to_float_row(out.data(), half.data(), n);
      expect(
          out, [&](int64_t i) { return static_cast<double>(to_float(to_bf16(y[i]))); }, 0);
      again();
      before.assign(x.data(), x.data() + n);
      kernels_.silu_mul_row(x.data(), y.data(), n);
      expect(x, [&](int64_t i) { return was(i) / (1 + std::exp(-was(i))) * y[i]; });
      before.assign(weight.data(), weight.data() + n);
      kernels_.gelu_tanh_row(weight.data(), n);
      expect(weight, [&](int64_t i) {
        return 0.5 * was(i) * (1 + std::tanh(std::sqrt(2 / M_PI) * (was(i) + 0.044715 * std::pow(was(i), 3))));
      });
      before.assign(y.data(), y.data() + n);
      float top = 0;
      kernels_.exp_row(y.data(), n, 0.5f, &top);
      expect(y, [&](int64_t i) { return std::exp(0.5 * was(i) - top); });

      Guarded<float> pairs(where, 2 * n), cosine(where, n), sine(where, n);
      pairs.fill(random_);
      cosine.fill(random_);
      sine.fill(random_);
      before.assign(pairs.data(), pairs.data() + 2 * n);
      kernels_.rope_row(pairs.data(), cosine.data(), sine.data(), n, true);
      expect(pairs, [&](int64_t i) { return was(2 * i) * cosine[i] - was(2 * i + 1) * sine[i]; });

      before.assign(pairs.data(), pairs.data() + 2 * n);
      kernels_.rope_row(pairs.data(), cosine.data(), sine.data(), n, false);
      expect(pairs, [&](int64_t i) { return was(i) * cosine[i] - was(n + i) * sine[i]; });

      const int64_t rows = 5;
      Guarded<float> matrix(where, rows * n), turned(where, n * rows);
      matrix.fill(random_);
      kernels_.transpose(matrix.data(), n, rows, n, 0.5f, turned.data(), rows);
      for (int64_t i = 0; i < rows * n; ++i) ASSERT_EQ(turned[i % n * rows + i / n], 0.5f * matrix[i]);
      Guarded<BF16> panel(where, round_up(n, kTileDepth) * kPanel, 64);
      const auto at = [&](int64_t column, int64_t k) {
        return to_float(panel[k / 2 * 2 * kPanel + 2 * column + k % 2]);
      };
      kernels_.panel_from_rows(matrix.data(), n, rows, n, panel.data());
      for (int64_t i = 0; i < rows * n; ++i) ASSERT_EQ(at(i / n, i % n), to_float(to_bf16(matrix[i])));
      kernels_.panel_from_columns(turned.data(), rows, rows, n, panel.data());
      for (int64_t i = 0; i < rows * n; ++i)
        ASSERT_EQ(at(i / n, i % n), to_float(to_bf16(turned[i % n * rows + i / n])));
    }
}

TEST_P(GuardPages, RowsInCodes) {
  for (const Where where : {Where::kEnd, Where::kBegin})
    for (const int64_t n : {1, 15, 16, 33, 63, 64, 65, 100, 128, 161}) {
      const int64_t groups = (n + kCacheGroup - 1) / kCacheGroup;
      Guarded<float> x(where, n), out(where, n);
      Guarded<int8_t> codes(where, n);
      Guarded<BF16> scales(where, groups), half(where, n);
      x.fill(random_);
      kernels_.to_codes_row(codes.data(), scales.data(), 1, x.data(), n);
      kernels_.from_codes_row(out.data(), codes.data(), scales.data(), 1, n);
      for (int64_t i = 0; i < n; ++i) {
        float top = 0;
        for (int64_t j = i / kCacheGroup * kCacheGroup; j < std::min(n, (i / kCacheGroup + 1) * kCacheGroup); ++j)
          top = std::max(top, std::abs(x[j]));
        // Half a step, and that the scale was rounded down.
        ASSERT_NEAR(out[i], x[i], top * (0.5 / 127 + 1.0 / 512)) << i << " of " << n;
        ASSERT_EQ(out[i], static_cast<float>(codes[i]) * to_float(scales[i / kCacheGroup]));
      }
      if (kernels_.codes_to_bf16_row == nullptr) continue;
      kernels_.codes_to_bf16_row(half.data(), codes.data(), scales.data(), 1, n);
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(to_float(half[i]), to_float(to_bf16(out[i]))) << i << " of " << n;
    }
}

std::string name_of(const testing::TestParamInfo<Isa>& info) { return std::string(isa_name(info.param)); }
INSTANTIATE_TEST_SUITE_P(Isas, GuardPages, testing::ValuesIn(available_isas()), name_of);

}  // namespace
}  // namespace vl2::cpu

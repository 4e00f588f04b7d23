// AVX-512 kernels with vdpbf16ps for bf16 x bf16. Everything else is the VNNI table's.
//
// Some processors run vdpbf16ps at half the rate of float32 FMAs, others at twice: this table serves --compute bf16 on
// machines without AMX.
#include <cmath>
#include <cstring>

#include "engine/cpu/kernels/kernel_table.h"

#if defined(__x86_64__)

#include <immintrin.h>

// GCC 11 and 12 warn about their own _mm512_undefined_* (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prefer-vector-width=512")

namespace vl2::cpu {
namespace avx512bf16 {
// clang-format off
#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/generic/math-inl.h"
#include "engine/cpu/kernels/generic/finish-inl.h"
// clang-format on

// Groups of rows, each [K' / 2][rows of the group] pairs of bf16.
int64_t packed_bytes(int64_t rows, int64_t k) {
  return rows * round_up(k, kTileDepth) * static_cast<int64_t>(sizeof(BF16));
}

void pack(const float* a, int64_t stride, const int32_t* index, int64_t rows, int64_t k, void* packed) {
  BF16* out = static_cast<BF16*>(packed);
  const int64_t depth = round_up(k, kTileDepth);
  for (int64_t first = 0; first < rows; first += kRowGroup) {
    const int64_t group = rows - first < kRowGroup ? rows - first : kRowGroup;
    for (int64_t r = 0; r < group; ++r) {
      const float* row = a + (index != nullptr ? index[first + r] : first + r) * stride;
      for (int64_t d = 0; d < depth; d += 32) {
        const int64_t n = k - d;
        alignas(64) BF16 values[32];
        store_bf16(values, n >= 16 ? load(row + d) : load_n(row + d, n));
        store_bf16(values + 16, n >= 32 ? load(row + d + 16) : n > 16 ? load_n(row + d + 16, n - 16) : zero());
        for (int64_t i = 0; i < 32; i += 2)
          std::memcpy(out + (d / 2 + i / 2) * 2 * group + 2 * r, values + i, 2 * sizeof(BF16));
      }
    }
    out += group * depth;
  }
}

template <int M, int P>
[[gnu::noinline]] void multiply_dot(const BF16* a, const BF16* b, int64_t panel_stride, int64_t depth, float* sums) {
  __m512 sum[M][P];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) sum[m][p] = _mm512_setzero_ps();
  const auto* pairs = reinterpret_cast<const int32_t*>(a);
  for (int64_t k = 0; k < depth; k += 2) {
    __m512bh w[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) w[p] = (__m512bh)_mm512_loadu_si512(b + p * panel_stride + k * kPanel);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const __m512bh x = (__m512bh)_mm512_set1_epi32(pairs[k / 2 * M + m]);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) sum[m][p] = _mm512_dpbf16_ps(sum[m][p], x, w[p]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) _mm512_storeu_ps(sums + (m * P + p) * kPanel, sum[m][p]);
}

template <int M, int P>
inline void dot_group(const GemmTask& task, const BF16* a, int64_t first_row, int64_t first_panel) {
  const int64_t stride = round_up(task.panel_depth(), kTileDepth) * kPanel;
  // Beyond the last pair all is zero.
  multiply_dot<M, P>(a, static_cast<const BF16*>(task.b) + first_panel * stride, stride, round_up(task.k, 2),
                     task.scratch);
  for (int m = 0; m < M; ++m)
    for (int p = 0; p < P; ++p)
      finish(task, task.c + (first_row + m) * task.c_stride, (first_panel + p) * kPanel,
             load(task.scratch + (m * P + p) * kPanel));
}

template <int P>
inline void dot_panels(const GemmTask& task, int64_t first_panel) {
  const BF16* a = static_cast<const BF16*>(task.a);
  for (int64_t row = 0; row < task.rows; row += kRowGroup) {
    const int64_t group = task.rows - row < kRowGroup ? task.rows - row : kRowGroup;
    with_size<kRowGroup>(group, [&]<int M>(Size<M>) { dot_group<M, P>(task, a, row, first_panel); });
    a += group * round_up(task.k, kTileDepth);
  }
}

[[gnu::noinline]] int64_t peak(const void* data, int64_t rounds, float* sink) {
  constexpr int kSums = kRowGroup * kPanelsAtOnce;
  constexpr int64_t kVectors = kPeakBytes / 64;
  const auto* x = static_cast<const std::byte*>(data);
  __m512 sum[kSums];
#pragma GCC unroll 24
  for (int s = 0; s < kSums; ++s) sum[s] = _mm512_set1_ps(static_cast<float>(s));  // equal sums are computed once
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t v = 0; v + 1 < kVectors; v += 2) {
      const __m512bh a = (__m512bh)_mm512_loadu_si512(x + v * 64), b = (__m512bh)_mm512_loadu_si512(x + (v + 1) * 64);
#pragma GCC unroll 24
      for (int s = 0; s < kSums; ++s) sum[s] = _mm512_dpbf16_ps(sum[s], a, b);
      __asm__ volatile("" ::: "memory");
    }
  }
#pragma GCC unroll 24
  for (int s = 1; s < kSums; ++s) sum[0] = _mm512_add_ps(sum[0], sum[s]);
  *sink = _mm512_reduce_add_ps(sum[0]);
  return rounds * (kVectors / 2) * kSums * 32 * 2;
}

void run(const GemmTask& task) {
  int64_t panel = 0;
  for (; panel + 2 <= task.panels; panel += 2) dot_panels<2>(task, panel);
  for (; panel < task.panels; ++panel) dot_panels<1>(task, panel);
}

// clang-format off
#include "engine/cpu/kernels/avx512bf16/attend-bf16-inl.h"
// clang-format on

constexpr GemmKernel kDotKernel = {pack, packed_bytes, kRowGroup, run};

}  // namespace avx512bf16
}  // namespace vl2::cpu

#pragma GCC pop_options

namespace vl2::cpu {

const KernelTable& avx512bf16_kernels() {
  static const KernelTable table = [] {
    KernelTable t = avx512vnni_kernels();
    t.isa = "avx512bf16";
    t.bf16 = avx512bf16::kDotKernel;
    t.peak_bf16 = avx512bf16::peak;
    t.attend_queries_bf16 = avx512bf16::attend_queries_bf16;
    t.attend_scores_bf16 = avx512bf16::attend_scores_bf16;
    t.attend_mix_bf16 = avx512bf16::attend_mix_bf16;
    t.codes_to_bf16_row = avx512bf16::codes_to_bf16_row;
    return t;
  }();
  return table;
}

}  // namespace vl2::cpu

#else

namespace vl2::cpu {
const KernelTable& avx512bf16_kernels() { return scalar_kernels(); }
}  // namespace vl2::cpu

#endif

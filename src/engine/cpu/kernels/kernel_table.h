// The kernels of one instruction set. Each ISA folder fills one table; entries it does not improve are inherited from
// the next weaker one. A kernel runs on one thread: blocking and threads are the callers' business.
//
// Weights are stored in panels of 16 output columns, so that one layout serves every ISA:
//   float32  [N / 16][K][16]
//   bfloat16 [N / 16][K' / 2][16][2]   K' = K rounded up to 32, zeros beyond; a 16 x 32 piece is one AMX tile
//   q8, q4   core/quant/panel_format.h
#pragma once

#include <cstdint>

#include "core/base/dtype.h"
#include "core/quant/panel_format.h"

namespace vl2::cpu {

inline constexpr int64_t kPanel = kPanelRows;      // output columns of a panel
inline constexpr int64_t kTileDepth = kBf16Depth;  // K rounding of bf16 panels

// Of every page of what is read in a stream, one line is fetched so far ahead (kernels/generic/pages-inl.h).
inline constexpr int64_t kPageBytes = 4096;
inline constexpr int64_t kPagesAhead = 24 << 10;

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// What happens to a sum before it is stored. kAdd: c += sum.
enum class Epilogue { kStore, kAdd, kGeluTanh };

struct GemmTask {
  const void* a;  // rows packed by pack_a
  int64_t rows;
  const void* b;  // first panel
  int64_t panels;
  int64_t k;  // depth of the stored matrix, before rounding
  float* c;   // first row, first column of these panels
  int64_t c_stride;
  int64_t columns;    // of C, at most panels * 16; columns beyond are not written
  const float* bias;  // nullptr: none; one per column
  Epilogue epilogue;
  float* scratch;              // gemm_scratch_floats(rows)
  const void* next = nullptr;  // what this thread multiplies by next; few rows fetch its first lines. nullptr: unknown
  int64_t stored_k = 0;        // depth the panels were stored with when it is more than k; 0: k

  int64_t panel_depth() const { return stored_k != 0 ? stored_k : k; }
};

// fn(Size<n>) for an n from 1 to kMost: a number of rows that the compiler must know to keep their sums in registers.
template <int n>
struct Size {};
template <int kMost, typename Fn>
inline void with_size(int64_t n, const Fn& fn) {
  if (n == kMost) return fn(Size<kMost>{});
  if constexpr (kMost > 1) with_size<kMost - 1>(n, fn);
}

inline int64_t gemm_scratch_floats(int64_t rows) { return round_up(rows, 32) * 4 * kPanel; }

// C = A B^T for one pair of formats. A row of C never depends on the other rows: bit for bit.
struct GemmKernel {
  // Packs `rows` rows of `k` floats for run. index (optional): row i is a[index[i]].
  void (*pack_a)(const float* a, int64_t stride, const int32_t* index, int64_t rows, int64_t k, void* out);
  int64_t (*packed_a_bytes)(int64_t rows, int64_t k);
  int64_t row_group;  // rows are packed in groups of this many: blocks of rows start at multiples of it
  void (*run)(const GemmTask& task);
};

// Rows of keys or values of one head, where they lie: row j begins at runs[j / run] + offset + j % run * stride.
struct RowRuns {
  const float* const* runs;
  int64_t run;    // rows of a run
  int64_t count;  // rows of all runs
  int64_t offset;
  int64_t stride;
};

// Where a stream of rows leaps: bytes from `end` on are not read next, those from next on are. Only fetching ahead
// asks.
struct Leap {
  uintptr_t end = UINTPTR_MAX;
  uintptr_t next = UINTPTR_MAX;

  const std::byte* ahead(const void* at, int64_t bytes) const {
    const uintptr_t place = reinterpret_cast<uintptr_t>(at) + static_cast<uintptr_t>(bytes);
    return reinterpret_cast<const std::byte*>(place + (place >= end ? next - end : 0));
  }
};

// The same of a bf16 cache, rows from the first value on.
struct Bf16Runs {
  const BF16* const* runs = nullptr;
  int64_t run = 0, count = 0, offset = 0, stride = 0;

  const BF16* row(int64_t j) const { return runs[j / run] + (offset + j % run * stride); }
};
// Keys that attend_mix_bf16 takes at once, at most.
inline constexpr int64_t kBf16Keys = 256;

inline constexpr int64_t kCacheGroup = 128;  // values of a cache in 8 bits that share a scale

inline constexpr int64_t kMaxRope = 512;  // columns that RoPE rotates, at most
inline constexpr int64_t kMaxLanes = 48;  // queries that share one pass over the keys

struct KernelTable {
  const char* isa;      // whose kernels these are: "avx2"
  GemmKernel f32;       // float32 panels, float32 arithmetic
  GemmKernel bf16_f32;  // bfloat16 panels widened, float32 arithmetic
  GemmKernel bf16;      // bfloat16 panels, activations rounded to bfloat16, float32 sums
  GemmKernel q8, q4;    // codes; activations rounded to 8 bits in groups of kQuantGroup, whole sums inside a group

  // out[i] = dot(q[i], x[j]) for rows x[j] of a cache: out [rows][n], out_stride. q rows are q_stride apart; the rows
  // of the cache are read on to where `leap` says.
  void (*dot_rows_f32)(const float* q, int64_t q_stride, int64_t rows, const float* x, int64_t x_stride, int64_t n,
                       int64_t width, float* out, int64_t out_stride, const Leap& leap);
  void (*dot_rows_bf16)(const float* q, int64_t q_stride, int64_t rows, const BF16* x, int64_t x_stride, int64_t n,
                        int64_t width, float* out, int64_t out_stride, const Leap& leap);
  void (*dot_rows_int8)(const float* q, int64_t q_stride, int64_t rows, const int8_t* x, int64_t x_stride, int64_t n,
                        int64_t width, float* out, int64_t out_stride, const Leap& leap);
  // out[i] += sum_j p[i][j] x[j]
  void (*mix_rows_f32)(const float* p, int64_t p_stride, int64_t rows, const float* x, int64_t x_stride, int64_t n,
                       int64_t width, float* out, int64_t out_stride, const Leap& leap);
  void (*mix_rows_bf16)(const float* p, int64_t p_stride, int64_t rows, const BF16* x, int64_t x_stride, int64_t n,
                        int64_t width, float* out, int64_t out_stride, const Leap& leap);
  void (*mix_rows_int8)(const float* p, int64_t p_stride, int64_t rows, const int8_t* x, int64_t x_stride, int64_t n,
                        int64_t width, float* out, int64_t out_stride, const Leap& leap);

  // x[0, n) = exp(scale * x - max) with max of the scaled values; returns the sum. max_out gets the max.
  float (*exp_row)(float* x, int64_t n, float scale, float* max_out);
  void (*scale_row)(float* x, int64_t n, float factor);
  void (*rms_norm_row)(float* out, const float* x, const float* weight, int64_t n, float eps);
  void (*layer_norm_row)(float* out, const float* x, const float* weight, const float* bias, int64_t n, float eps);
  void (*add_row)(float* x, const float* y, int64_t n);
  void (*add_scaled_row)(float* x, const float* y, float factor, int64_t n);
  void (*gelu_tanh_row)(float* x, int64_t n);
  void (*silu_mul_row)(float* gate, const float* up, int64_t n);
  void (*to_bf16_row)(BF16* out, const float* x, int64_t n);
  void (*to_float_row)(float* out, const BF16* x, int64_t n);
  // Of a cache in 8 bits: codes [n], and a scale for each kCacheGroup of them, `stride` apart.
  void (*to_codes_row)(int8_t* codes, BF16* scales, int64_t stride, const float* x, int64_t n);
  void (*from_codes_row)(float* out, const int8_t* codes, const BF16* scales, int64_t stride, int64_t n);
  // One bf16 panel of at most 16 columns, each k floats: rows x[c], or side by side as x[d * stride + c].
  void (*panel_from_rows)(const float* x, int64_t stride, int64_t columns, int64_t k, BF16* out);
  void (*panel_from_columns)(const float* x, int64_t stride, int64_t columns, int64_t k, BF16* out);

  // What the unit can do at most, for benchmarks to stand beside: products of random numbers that lie in registers and
  // the first-level cache. data: kPeakBytes of floats (bf16) from -1 to 1. They return the operations done.
  int64_t (*peak_f32)(const void* data, int64_t rounds, float* sink);
  int64_t (*peak_bf16)(const void* data, int64_t rounds, float* sink);  // nullptr: the unit has no bf16 products
  int64_t (*peak_int8)(const void* data, int64_t rounds, float* sink);  // data: any bytes
  // Reads memory as fast as it comes, in 1, 2 or 4 streams, prefetching `ahead` bytes; bytes is a multiple of 4096.
  float (*read_memory)(const std::byte* data, int64_t bytes, int streams, int64_t ahead);

  // Attention with one query a lane, `vectors` vectors of 16 lanes, at most query_vectors. Rows are [first, first + n).
  int64_t query_vectors;
  // out [n][lanes] = keys [n][size] q [size][lanes]
  void (*attend_scores)(const float* q, int64_t vectors, const RowRuns& keys, int64_t first, int64_t n, int64_t size,
                        float* out);
  // s [n][lanes] = 2^(s - top), top and sum [lanes] kept up to date; factor [lanes]: what the old sums shrink by. Takes
  // any number of vectors.
  void (*attend_softmax)(float* s, int64_t vectors, int64_t n, float* top, float* sum, float* factor);
  // out [size][lanes] = factor out + values^T [size][n] p [n][lanes]
  void (*attend_mix)(const float* p, int64_t vectors, const RowRuns& values, int64_t first, int64_t n, int64_t size,
                     const float* factor, float* out);
  // The same over rows of a bf16 cache as they lie, but that mixes are [lanes][size]: queries and weights are rounded
  // to bf16 too, sums are float32. attend_queries_bf16 lays q out for the scores: bf16_query_bytes(), at a multiple
  // of 64. nullptr: widening the rows is no slower.
  void (*attend_queries_bf16)(const float* q, int64_t vectors, int64_t size, std::byte* out);
  void (*attend_scores_bf16)(const std::byte* queries, int64_t vectors, const Bf16Runs& keys, int64_t first, int64_t n,
                             int64_t size, float* out);
  void (*attend_mix_bf16)(const float* p, int64_t vectors, const Bf16Runs& values, int64_t first, int64_t n,
                          int64_t size, const float* factor, float* out);
  // For these, where they are: rows in codes as rows of bf16.
  void (*codes_to_bf16_row)(BF16* out, const int8_t* codes, const BF16* scales, int64_t stride, int64_t n);
  // out [cols][rows] = factor x [rows][cols]
  void (*transpose)(const float* x, int64_t stride, int64_t rows, int64_t cols, float factor, float* out,
                    int64_t out_stride);
  // x [2 * half] in place; interleaved: pairs (x[2k], x[2k + 1]) become halves (RopeLayout).
  void (*rope_row)(float* x, const float* cos, const float* sin, int64_t half, bool interleaved);
};

inline int64_t bf16_query_bytes(int64_t vectors, int64_t size) {
  return round_up(size, 32) * vectors * kPanel * static_cast<int64_t>(sizeof(BF16));
}

inline constexpr int64_t kPeakBytes = 16 << 10;

const KernelTable& scalar_kernels();
const KernelTable& avx2_kernels();
const KernelTable& avxvnni_kernels();
const KernelTable& avx512_kernels();
const KernelTable& avx512vnni_kernels();
const KernelTable& avx512bf16_kernels();
const KernelTable& amx_kernels();

}  // namespace vl2::cpu

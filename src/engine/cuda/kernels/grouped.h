// Products of many rows that fall into groups, each with matrices of its own: what experts are, and (as one group) a
// matrix stored in codes.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/experts.h"
#include "engine/cuda/kernels/matrix.h"

namespace vl2::cuda {

// y[p] = W_g x[row of p] for every position p of group g; or hidden[p] = silu(W_g x) * (V_g x).
struct Grouped {
  // bf16: bfloat16 [.., x_stride] as pack_rows leaves them. exact: float [.., x_stride].
  const void* x = nullptr;
  int64_t x_stride = 0;
  const int32_t* order = nullptr;  // the row of position p is order[p] / top_k; nullptr: p
  int64_t top_k = 1;
  const int32_t* first = nullptr;  // [groups + 1]: group g has positions first[g] .. first[g + 1]
  int64_t groups = 0;              // 0: one group of all positions, with w's (and v's) own data
  int64_t positions = 0;
  const ExpertPointers* table = nullptr;
  bool down = false;  // multiply by table[g].down, else by gate and up
  MatrixView w, v;    // shapes and format; v.rows == 0: no second factor
  // What comes out: y float [positions, out_stride]; hidden as x for another product (bf16: packed; exact: float).
  void* out = nullptr;
  int64_t out_stride = 0;
  const float* bias = nullptr;  // of y
  bool add = false;             // y += instead of y =
};
void grouped_bf16(Stream stream, const Grouped& args);  // bf16, q8, q4; x rounded to bfloat16, sums in float32
// The two kernels grouped_bf16 chooses between where W is bf16: any device's, and Hopper's, which wants rows enough to
// fill larger tiles.
void grouped_warps(Stream stream, const Grouped& args);
// Rows of W and V (64 a warpgroup; 2 or 3 of them) and positions (256 at most) of a block; 0: what suits the shapes.
struct GroupedTiles {
  int warpgroups = 0, positions = 0;
};
void grouped_warpgroups(Stream stream, const Grouped& args, GroupedTiles tiles = {});
bool grouped_warpgroups_run();  // on the current device: a GPU with wgmma, compiled for, or the software device
void grouped_exact(Stream stream, const Grouped& args);  // any format, all in float32

// Columns of packed rows: a multiple of 64.
inline int64_t packed_cols(int64_t cols) { return (cols + 63) / 64 * 64; }
// Rows as grouped_bf16 multiplies them by matrices of `format`: bfloat16 in an order of k that suits the codes, zeros
// up to packed_cols().
void pack_rows(Stream stream, Bf16Bits* out, const float* x, int64_t x_stride, int64_t rows, int64_t cols,
               MatrixFormat format);

// y = W x (+ b) for many rows by the kernels above, where W is not stored as the library's products want it.
struct ManyRowsLinear {
  float* out = nullptr;
  const float* x = nullptr;
  int64_t out_stride = 0, x_stride = 0;
  int64_t rows = 0;
  MatrixView w;
  const float* bias = nullptr;
  bool add = false;
  bool exact = true;
  void* scratch = nullptr;  // many_rows_scratch_bytes(), 256-byte aligned
};
void linear_many_rows(Stream stream, const ManyRowsLinear& args);
size_t many_rows_scratch_bytes(int64_t rows, int64_t cols);

}  // namespace vl2::cuda

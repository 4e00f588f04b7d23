// Operations that pass over rows: lookups, norms, activations, RoPE, pictures. Everything is float32; one
// block works on one row, or on a piece of one. Index lists are device memory.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"

namespace vl2::cuda {

// A table whose rows are looked up, in its stored type; rows without gaps.
struct TableView {
  const void* data = nullptr;
  bool bf16 = false;
  int64_t rows = 0, cols = 0;
};

void embed(Stream stream, const RowsView& out, const TableView& table, const int32_t* ids);    // out[t] = table[ids[t]]
void gather_rows(Stream stream, const RowsView& out, const RowsView& x, const int32_t* rows);  // out[i] = x[rows[i]]
void scatter_rows(Stream stream, const RowsView& out, const RowsView& x, const int32_t* rows);  // out[rows[i]] = x[i]
void add_rows(Stream stream, const RowsView& x, const TableView& table);  // x[t] += table[t % table.rows]
void add(Stream stream, const RowsView& x, const RowsView& y);            // x += y

// weight and bias [cols]. In place is fine.
void rms_norm(Stream stream, const RowsView& out, const RowsView& x, const float* weight, float eps);
void layer_norm(Stream stream, const RowsView& out, const RowsView& x, const float* weight, const float* bias,
                float eps);
// The same, rounded: out [rows, out_stride], zeros from x.cols on. x has one head.
void layer_norm(Stream stream, Bf16Bits* out, int64_t out_stride, const RowsView& x, const float* weight,
                const float* bias, float eps);

void gelu(Stream stream, const RowsView& x, bool tanh);
void silu_mul(Stream stream, const RowsView& gate, const RowsView& up);  // gate = silu(gate) * up

// x [T, H, R], y [T, G, R] or none; cos and sin [T, R / 2].
void rope(Stream stream, const RowsView& x, const RowsView& y, const RowsView& cos, const RowsView& sin,
          bool interleaved);

// out [rows, out_stride] = x rounded to nearest, zeros from x.cols on.
void round_rows(Stream stream, Bf16Bits* out, int64_t out_stride, const RowsView& x);

void pixel_shuffle(Stream stream, const RowsView& out, const RowsView& x, int64_t grid, int64_t ratio);
// pixels [items, 3, size, size]
void extract_patches(Stream stream, const RowsView& out, const float* pixels, int64_t size, int64_t patch);

}  // namespace vl2::cuda

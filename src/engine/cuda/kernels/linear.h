// y = W x (+ b) for few rows, and stored panels widened for the library's products of many.
#pragma once

#include <span>

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"

namespace vl2::cuda {

struct FewRowsLinear {
  float* out = nullptr;  // [rows, w.rows]
  const float* x = nullptr;
  int64_t out_stride = 0, x_stride = 0;
  int64_t rows = 0;  // 1..16 is what this is for; more are done 16 by 16
  MatrixView w;
  const float* bias = nullptr;  // [w.rows], optional
  bool add = false;             // out += instead of out =
  // x as three bfloat16 instead of one: float32 arithmetic. float32 matrices are multiplied in float32 in any case.
  bool exact = true;
};
void linear_few_rows(Stream stream, const FewRowsLinear& args);

// Several matrices that read the same rows, in one launch: two or three of one format, not float32, and as many
// columns; 16 rows at most. False: they are not, and nothing was done.
[[nodiscard]] bool linear_few_rows(Stream stream, std::span<const FewRowsLinear> args);

// The two products of a gated block and what joins them: hidden = silu(gate x) * (up x), [rows, gate.rows]. gate and up
// have one format and shape. The third is linear_few_rows.
struct FewRowsGated {
  float* hidden = nullptr;
  const float* x = nullptr;
  int64_t hidden_stride = 0, x_stride = 0;
  int64_t rows = 0;
  MatrixView gate, up;
  bool exact = true;
};
void gated_few_rows(Stream stream, const FewRowsGated& args);

// out [w.rows, out_stride] = what the stored matrix means, rows padded with zeros up to out_stride. q8 and q4 (to
// bfloat16: rounded), bf16 and f32.
void dequantise(Stream stream, Bf16Bits* out, int64_t out_stride, const MatrixView& w);
void dequantise(Stream stream, float* out, int64_t out_stride, const MatrixView& w);

}  // namespace vl2::cuda

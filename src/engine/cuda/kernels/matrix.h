// How kernels see matrices and rows in device memory. Nothing here owns memory.
//
// Conventions of every kernels/<name>.h: launchers take the Stream and one struct of arguments (pointers into device
// memory, shapes, strides in elements), return at once, and throw where a launch fails. Any size works, zero rows
// included; a fast path looks at sizes and alignment itself. No launcher allocates memory: scratch is an argument, with
// a function that says how many bytes it must have.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vl2::cuda {

// Activations: rows x heads x cols floats, the last dimension contiguous (engine/ops/tensor.h's Tensor). Strides need
// not be multiples of anything.
struct RowsView {
  float* data = nullptr;
  int64_t rows = 0, heads = 1, cols = 0;
  int64_t row_stride = 0, head_stride = 0;
};

// bfloat16 is uint16_t in host headers; kernel_language.h knows the arithmetic.
using Bf16Bits = uint16_t;

enum class MatrixFormat : uint8_t {
  kF32,   // [rows][stride] float
  kBf16,  // [rows][stride] bfloat16
  kQ8,    // panels of core/quant/panel_format.h
  kQ4,
};

// A weight matrix W [rows, cols], y = W x. Data is 256-byte aligned. f32 and bf16 lie row by row; `stride` is a
// multiple of 8 values (so rows begin at multiples of 16 bytes) and what pads a row is zeros. q8 and q4 are the stored
// panels as they are, `stride` is the bytes of a panel.
struct MatrixView {
  MatrixFormat format = MatrixFormat::kF32;
  const void* data = nullptr;
  int64_t rows = 0, cols = 0;
  int64_t stride = 0;
};

}  // namespace vl2::cuda

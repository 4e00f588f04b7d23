// The element-wise parts of the model over bf16 rows, forward and backward, in one pass each: libtorch's own read and
// write every intermediate value, and take two fifths of a step of a small model.
//
// Everything is computed in float32 and rounded once. A row's result depends on the row alone. Plain loops without
// libtorch; any thread.
#pragma once

#include <cstdint>

namespace vl2::train {

struct RowKernels {
  using Half = uint16_t;  // bf16's bits

  // y = gelu(x) (tanh form); dx = dy gelu'(x)
  void (*gelu_tanh)(const Half* x, Half* y, int64_t n);
  void (*gelu_tanh_backward)(const Half* x, const Half* dy, Half* dx, int64_t n);

  // y = silu(gate) * up, and the gradients of both
  void (*silu_mul)(const Half* gate, const Half* up, Half* y, int64_t n);
  void (*silu_mul_backward)(const Half* gate, const Half* up, const Half* dy, Half* dgate, Half* dup, int64_t n);

  // Softmax of each row of `width`; -infinity gives 0. dx = y (dy - sum(dy y)) from the rounded y.
  void (*softmax)(const Half* x, Half* y, int64_t rows, int64_t width);
  void (*softmax_backward)(const Half* y, const Half* dy, Half* dx, int64_t rows, int64_t width);

  // y = x * scale, rounded, times weight, rounded again (as the official code does); scale [rows] = 1 / rms is kept.
  void (*rms_norm)(const Half* x, const Half* weight, Half* y, float* scale, int64_t rows, int64_t width, float eps);
  // dweight [width] is added to.
  void (*rms_norm_backward)(const Half* x, const Half* weight, const float* scale, const Half* dy, Half* dx,
                            float* dweight, int64_t rows, int64_t width);

  // y = (x - mean) * scale * weight + bias; mean and scale [rows] are kept.
  void (*layer_norm)(const Half* x, const Half* weight, const Half* bias, Half* y, float* mean, float* scale,
                     int64_t rows, int64_t width, float eps);
  // dweight and dbias [width] are added to.
  void (*layer_norm_backward)(const Half* x, const Half* weight, const float* mean, const float* scale, const Half* dy,
                              Half* dx, float* dweight, float* dbias, int64_t rows, int64_t width);
};

// Those of this processor: AVX-512, AVX2 with FMA, or plain.
const RowKernels& row_kernels();
// All that this processor can run, the plain ones first, for tests.
int num_row_kernels();
const RowKernels& row_kernels(int which);

}  // namespace vl2::train

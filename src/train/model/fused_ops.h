// Element-wise functions with their gradients, fused on a CPU in bf16 (row_kernels.h); elsewhere libtorch's own.
//
// Plain functions; autograd goes through all of them. Gradients do not depend on the number of threads.
#pragma once

#include <ATen/core/Tensor.h>

namespace vl2::train {

at::Tensor gelu_tanh(const at::Tensor& x);
at::Tensor silu_mul(const at::Tensor& gate, const at::Tensor& up);  // silu(gate) * up
at::Tensor fused_layer_norm(const at::Tensor& x_RD, const at::Tensor& weight, const at::Tensor& bias, double eps);

// Whether the kernels take these tensors.
bool fusable(const at::Tensor& x);

// Of bf16 that is fusable; each forward and its backward.
at::Tensor fused_softmax(const at::Tensor& scores);
at::Tensor fused_rms_norm(const at::Tensor& x_RD, const at::Tensor& weight, double eps);

}  // namespace vl2::train

// Attention within samples over flat rows, fused on a CPU in bf16 (attention_kernels.h).
//
// Plain functions; autograd goes through them. Results do not depend on the number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace vl2::train {

// softmax(scale q k^T) v of each sample for itself, causal. q_THK, k_TGK, v_TGV, channels contiguous, of tensors that
// fusable() takes; starts: of the samples, and the end of the last. -> [T, H * V]; rows of no sample are zeros.
at::Tensor fused_causal_attention(const at::Tensor& q_THK, const at::Tensor& k_TGK, const at::Tensor& v_TGV,
                                  const std::vector<int64_t>& starts, double scale);

// The same without order, of samples of `length` rows each: qkv_T3HK -> [T, H * K].
at::Tensor fused_attention(const at::Tensor& qkv_T3HK, int64_t length, double scale);

}  // namespace vl2::train

// Next-token cross-entropy straight from hidden states, so that a large vocabulary's logits never exist all at once.
#pragma once

#include <ATen/core/Tensor.h>

namespace vl2::train {

// -log softmax(hidden_RD weight_VD^T)[target_R] of each row, [R] float32: products in the type of the arguments, the
// rest in float32. Gradients to hidden and weight.
at::Tensor cross_entropy(const at::Tensor& hidden_RD, const at::Tensor& weight_VD, const at::Tensor& target_R);

}  // namespace vl2::train

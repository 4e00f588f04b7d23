// The DeepSeekMoE decoder (spec: model 6).
#pragma once

#include "train/model/model_context.h"

namespace vl2::train {

// x_TD: embeddings -> output of the last layer, before the final norm.
at::Tensor decoder(const ModelContext& context, const at::Tensor& x_TD);

// Rows of the decoder's output -> logits, [R, vocab] float32.
at::Tensor output_logits(const ModelContext& context, const at::Tensor& x_RD);

// Their cross-entropy with the tokens that follow, [R] float32.
at::Tensor output_losses(const ModelContext& context, const at::Tensor& x_RD, const at::Tensor& target_R);

}  // namespace vl2::train

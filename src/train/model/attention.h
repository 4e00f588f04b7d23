// Self-attention: multi-head (Tiny) or multi-head latent (Small, VL2) of a decoder layer (spec: model 6.4 to 6.6), and
// the product of queries, keys and values that the vision encoder shares.
#pragma once

#include <string>

#include "train/model/model_context.h"

namespace vl2::train {

// normed_TD -> what the layer adds to the residual, [T, D].
at::Tensor attention(const ModelContext& context, int64_t layer, const at::Tensor& normed_TD);

// softmax(scale q k^T + mask) v with the softmax in float32. q_BLHK, k_BMHK, v_BMHV -> [B, L, H, V]. mask_BLM: [1 or B,
// L, M], undefined: none. `probabilities`: null, or set to [B, H, L, M] for a trace.
at::Tensor attend(const at::Tensor& q_BLHK, const at::Tensor& k_BMHK, const at::Tensor& v_BMHV, double scale,
                  const at::Tensor& mask_BLM, at::Tensor* probabilities = nullptr);

}  // namespace vl2::train

// Attention as the engine does it in bf16: what enters a product of a prompt or a picture is rounded, an answer's rows
// read rounded keys and values in float32. Tensors are float32 (DeepseekVl2::generate).
#pragma once

#include <ATen/core/Tensor.h>

namespace vl2::train {

// attend() (attention.h) with queries, keys, values and the softmax's exponentials rounded to bf16. Queries are rounded
// scaled by `scale` and log2 e; exponentials before they are divided by their sum, block of keys by block of keys.
at::Tensor rounded_attend(const at::Tensor& q_BLHK, const at::Tensor& k_BMHK, const at::Tensor& v_BMHV, double scale,
                          const at::Tensor& mask_BLM);

// Latent attention of an answer's rows, which never expands keys: queries go to latent space, whose products with the
// cache are not rounded, and the mixed latents come back. q_LHN with q_LHR rotated; c_MC and pe_MR: the cache, rounded;
// kv_b: [heads, N + V, C], rounded; mask_LM. -> [L, H * V].
at::Tensor absorbed_attend(const at::Tensor& q_LHN, const at::Tensor& q_LHR, const at::Tensor& c_MC,
                           const at::Tensor& pe_MR, const at::Tensor& kv_b, double scale, const at::Tensor& mask_LM);

}  // namespace vl2::train

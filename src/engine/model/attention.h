// Self-attention of one decoder layer: multi-head (Tiny) or multi-head latent (Small, VL2) (spec: model 6.4 to 6.6).
#pragma once

#include "engine/model/bind_weights.h"
#include "engine/model/forward_batch.h"
#include "engine/model/rope.h"
#include "engine/model/stage_tap.h"

namespace vl2 {

// cos and sin of every row's position, made once a step.
struct RotaryEmbedding {
  Tensor cos_TR, sin_TR;
  float softmax_scale_factor = 1.0f;
};

// residual_TD += attention(normed_TD); appends to the layer's cache.
void attention(const ModelContext& context, const std::variant<MhaWeights, MlaWeights>& weights, Tensor normed_TD,
               Tensor residual_TD, const ForwardBatch& batch, const RotaryEmbedding& rotary, KvLayer kv);

// Values a token keeps per layer.
int64_t cache_width(const LanguageConfig& config);
// Channels of a head that are rotated.
int64_t rotary_dim(const LanguageConfig& config);

}  // namespace vl2

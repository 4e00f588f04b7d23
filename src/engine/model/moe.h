// Feed-forward part of a decoder layer: one SwiGLU, or routed and shared experts (spec: model 6.3, 6.7, 6.8).
#pragma once

#include "engine/model/bind_weights.h"
#include "engine/model/stage_tap.h"

namespace vl2 {

// residual_TD += ffn(normed_TD).
void feed_forward(const ModelContext& context, const std::variant<DenseWeights, MoeWeights>& weights, Tensor normed_TD,
                  Tensor residual_TD, int64_t layer);

RouterParams router_params(const LanguageConfig& config);

}  // namespace vl2

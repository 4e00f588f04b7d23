// Feed-forward part of a decoder layer: one SwiGLU, or routed and shared experts (spec: model 6.3, 6.7, 6.8), with the
// balance loss of training (spec: training 3).
#pragma once

#include <string>
#include <vector>

#include "train/model/model_context.h"

namespace vl2::train {

// normed_TD -> what the layer adds to the residual, [T, D].
at::Tensor feed_forward(const ModelContext& context, int64_t layer, const at::Tensor& normed_TD);

// Each token's choice of experts, by expert number, with gradients to scores and weights.
struct Routing {
  at::Tensor expert_TK;  // int64
  at::Tensor weight_TK;  // float32
  at::Tensor scores_TE;  // float32: softmax or sigmoid
};

// bias_E: undefined without noaux_tc.
Routing route(const LanguageConfig& config, const at::Tensor& logits_TE, const at::Tensor& bias_E);

// alpha * mean over rows of sum_e f_e P_e; row_mean_BT as ForwardState has it. Only P has a gradient.
at::Tensor balance_loss(const LanguageConfig& config, const Routing& routing, const at::Tensor& row_mean_BT,
                        double alpha);

}  // namespace vl2::train

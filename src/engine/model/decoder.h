// The DeepSeekMoE decoder (spec: model 6).
#pragma once

#include "engine/model/attention.h"
#include "engine/model/bind_weights.h"
#include "engine/model/forward_batch.h"
#include "engine/model/stage_tap.h"

namespace vl2 {

// x_TD: embeddings of the batch, overwritten. logits [batch.logit_rows, vocab].
void decoder(const ModelContext& context, const ModelWeights& weights, const RopeAngles& angles, Tensor x_TD,
             const ForwardBatch& batch, KvCache& cache, Tensor logits);

}  // namespace vl2

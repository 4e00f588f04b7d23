// Vision-language adaptor: 2 x 2 patches merged, then an MLP to the language model's width (spec: model 4).
#pragma once

#include "engine/model/bind_weights.h"
#include "engine/model/stage_tap.h"

namespace vl2 {

// features_PW [N * patches, width] -> out_VD [N * side * side, n_embed], side = tokens_per_side.
void projector(const ModelContext& context, const ProjectorWeights& weights, Tensor features_PW, Tensor out_VD);

}  // namespace vl2

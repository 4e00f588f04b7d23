// SigLIP vision encoder: tiles to one feature vector per patch (spec: model 3).
#pragma once

#include <span>

#include "engine/model/bind_weights.h"
#include "engine/model/stage_tap.h"

namespace vl2 {

// pixels [N, 3, size, size], normalised; out_PW [N * patches, width].
void vision_encoder(const ModelContext& context, const VisionWeights& weights, std::span<const float> pixels,
                    Tensor out_PW);

}  // namespace vl2

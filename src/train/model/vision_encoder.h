// SigLIP vision encoder: tiles to one feature vector per patch (spec: model 3).
#pragma once

#include "train/model/model_context.h"

namespace vl2::train {

// tiles [N, size, size, 3] u8 -> [N * patches, width].
at::Tensor vision_encoder(const ModelContext& context, const at::Tensor& tiles);

}  // namespace vl2::train

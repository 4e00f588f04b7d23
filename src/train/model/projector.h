// Vision-language adaptor: 2 x 2 patches merged, then an MLP to the language model's width (spec: model 4).
#pragma once

#include "train/model/model_context.h"

namespace vl2::train {

// features_PW [N * patches, width] -> [N * side * side, n_embed], side = tokens_per_side.
at::Tensor projector(const ModelContext& context, const at::Tensor& features_PW);

}  // namespace vl2::train

// Order of an image's vision tokens in the text sequence (spec: model 5).
#pragma once

#include "engine/model/bind_weights.h"
#include "engine/model/stage_tap.h"

namespace vl2 {

// tokens_VD: the projector's output of one image, [1 + wide * high tiles][side * side][D], global view first.
// out_SD: [num_visual_tokens(...), D]: rows of the global view with newlines, the separator, and the local mosaic with
// newlines.
void visual_sequence(const ModelContext& context, const ProjectorWeights& weights, Tensor tokens_VD, int64_t tiles_wide,
                     int64_t tiles_high, Tensor out_SD);

int64_t num_visual_tokens(int64_t tiles_wide, int64_t tiles_high, int64_t side);

}  // namespace vl2

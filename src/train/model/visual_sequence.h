// Order of images' vision tokens in the text sequence (spec: model 5).
#pragma once

#include <span>

#include "train/model/model_context.h"

namespace vl2::train {

int64_t num_visual_tokens(int64_t tiles_wide, int64_t tiles_high, int64_t side);

// tokens_VD: the projector's output of all images (and maybe more tiles, which are not read), per image the global view
// first. -> [sum of num_visual_tokens, D]: of each image the rows of the global view with newlines, the separator, and
// the local mosaic with newlines.
at::Tensor visual_sequence(const ModelContext& context, const at::Tensor& tokens_VD,
                           std::span<const TiledImage> images);

}  // namespace vl2::train

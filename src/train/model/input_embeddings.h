// What the decoder is fed: rows of the embedding table, and vision tokens over the placeholders.
#pragma once

#include <cstdint>
#include <span>

#include "train/model/model_context.h"

namespace vl2::train {

// -> [rows, D] in the compute type; rows beyond the ids hold token 0. vision_mask: as many ones as the pictures have
// vision tokens. kInvalidArgument, `where` naming the batch.
at::Tensor input_embeddings(const ModelContext& context, std::span<const int32_t> ids,
                            std::span<const uint8_t> vision_mask, std::span<const TiledImage> images,
                            const std::string& where);

}  // namespace vl2::train

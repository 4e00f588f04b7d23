// Rotary position angles, in double until the final rounding to float32 (never in the weights' type).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "train/model/model_context.h"

namespace vl2::train {

// Channels of a head that are rotated.
int64_t rotary_dim(const LanguageConfig& config);

// Of every row; rows behind the samples get position 0. A sample's own length moves the base of dynamic scaling (golden
// quirk 22).
RotaryEmbedding rotary_embedding(const LanguageConfig& config, std::span<const int32_t> positions,
                                 std::span<const int64_t> sample_starts, int64_t rows, at::Device device);

enum class RopeLayout { kHalfSplit, kInterleaved };  // MHA; MLA, whose result is in half-split order all the same

// x_THR, rotated in float32.
at::Tensor rope(const at::Tensor& x_THR, const RotaryEmbedding& rotary, RopeLayout layout);

}  // namespace vl2::train

// flash_attention in float32 throughout.
#pragma once

#include "engine/cuda/kernels/flash_attention.h"

namespace vl2::cuda {

// As flash_attention with bf16 false; keys and values of any padded size that leaves room for a tile of 32 of them and
// of 16 queries in shared memory (about 1,100 columns together).
void plain_attention(const FlashAttention& args, Stream stream);

}  // namespace vl2::cuda

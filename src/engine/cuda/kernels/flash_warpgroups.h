// flash_attention in bfloat16 by wgmma: Hopper's kernel of many rows.
#pragma once

#include "engine/cuda/kernels/flash_attention.h"

namespace vl2::cuda {

// As flash_attention, for packed sizes that flash_warpgroups_have().
void flash_warpgroups(const FlashAttention& args, Stream stream);
bool flash_warpgroups_have(const FlashSizes& sizes);
bool flash_warpgroups_run();  // on the current device: a GPU with wgmma, compiled for, or the software device

}  // namespace vl2::cuda

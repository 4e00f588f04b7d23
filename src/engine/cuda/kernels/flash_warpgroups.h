// flash_attention in bfloat16 by wgmma: Hopper's kernel of many rows.
#pragma once

#include <initializer_list>

#include "engine/cuda/kernels/flash_attention.h"

namespace vl2::cuda {

// Of a block: warpgroups of 64 rows each (1 to 3), and keys of a tile (64 or 128); 0: what suits the shapes.
struct FlashTiles {
  int warpgroups = 0, keys = 0;
  bool held = false;   // queries stay in registers, not in shared memory
  bool split = false;  // values of 80 columns are a product of 64 and one of 16, not one of 80
  bool operator==(const FlashTiles&) const = default;
};
// As flash_attention, for packed sizes that flash_warpgroups_have().
void flash_warpgroups(const FlashAttention& args, Stream stream, FlashTiles tiles = {});
bool flash_warpgroups_have(const FlashSizes& sizes);
// Calls f(tiles) for each that such sizes have a kernel for.
template <typename F>
void for_flash_tiles(const FlashSizes& sizes, const F& f) {
  const bool narrow = sizes.v == 80;
  // Two narrow warpgroups have half of the registers: there are two such blocks at a time.
  for (const int warpgroups : {1, 2, 3})
    for (const bool held : {false, true})
      if (!held || warpgroups == 1 || (warpgroups == 3) == narrow) f(FlashTiles{warpgroups, 64, held, false});
  for (const int warpgroups : {2, 3})
    if (narrow || warpgroups < 3) f(FlashTiles{warpgroups, 128, false, false});
  if (narrow) f(FlashTiles{2, 64, false, true});
}
bool flash_warpgroups_run();  // on the current device: a GPU with wgmma, compiled for, or the software device

}  // namespace vl2::cuda

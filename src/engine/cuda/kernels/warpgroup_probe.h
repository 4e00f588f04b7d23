// Products of one warpgroup alone, for tests: that wgmma finds its factors where warpgroup.h says.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"

namespace vl2::cuda {

// Columns and k of the product.
inline constexpr int kProbeColumns[] = {64, 80, 128};
inline constexpr int kProbeDepth = 32;

// out [64, columns] = 1 + a [64, kProbeDepth] b [kProbeDepth, columns]: a from registers, b as rows of k in shared
// memory. split (80 columns): as products of 64 and of 16. All at multiples of 16 bytes.
void probe_rows_product(float* out, const Bf16Bits* a, const Bf16Bits* b, int columns, bool split, Stream stream);

}  // namespace vl2::cuda

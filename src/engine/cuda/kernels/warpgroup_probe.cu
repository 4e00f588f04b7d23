#include "engine/cuda/device/warpgroup.h"
#include "engine/cuda/kernels/check_argument.h"
#include "engine/cuda/kernels/warpgroup_probe.h"

namespace vl2::cuda {
namespace {

template <int columns, bool split>
__global__ void __launch_bounds__(128) rows_product_kernel(float* out, const Bf16Bits* a, const Bf16Bits* b) {
  VL2_DYNAMIC_SHARED(unsigned char, dynamic);
  unsigned char* const tiles = dynamic + (kTileAlignment - shared_address(dynamic) % kTileAlignment) % kTileAlignment;
  constexpr int kTile = kProbeDepth * kTileRowBytes, kPieces = columns / 8;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
  for (int i = thread; i < kProbeDepth * kPieces; i += 128) {
    const int row = i / kPieces, piece = i % kPieces;
    async_copy16(tile_piece(tiles + piece / 8 * kTile, row, piece % 8), b + i * 8);
  }
  async_commit();
  async_wait<0>();
  tiles_written();
  __syncthreads();
  float c[columns / 2];
  unsigned words[kProbeDepth / 16][4];
  VL2_UNROLL
  for (int i = 0; i < columns / 2; ++i) c[i] = 1;
  VL2_UNROLL
  for (int k = 0; k < kProbeDepth / 16; ++k) {
    VL2_UNROLL
    for (int i = 0; i < 4; ++i)
      words[k][i] = *reinterpret_cast<const unsigned*>(a + (warp * 16 + g + i % 2 * 8) * kProbeDepth + k * 16 + t * 2 +
                                                       i / 2 * 8);
  }
  warpgroup_keep(c);
  warpgroup_keep(words);
  warpgroup_begin();
  VL2_UNROLL
  for (int k = 0; k < kProbeDepth / 16; ++k) {
    if constexpr (split) {
      warpgroup_multiply_rows<64>(c, words[k], rows_descriptor(tiles, k * 16, kTile));
      warpgroup_multiply_rows<16, 64>(c, words[k], rows_descriptor(tiles + kTile, k * 16, kTile));
    } else {
      warpgroup_multiply_rows<columns>(c, words[k], rows_descriptor(tiles, k * 16, kTile));
    }
  }
  warpgroup_commit();
  warpgroup_wait<0>();
  warpgroup_keep(c);
  VL2_UNROLL
  for (int i = 0; i < columns / 2; ++i)
    out[(warp * 16 + g + i % 4 / 2 * 8) * columns + i / 4 * 8 + t * 2 + i % 2] = c[i];
}

}  // namespace

void probe_rows_product(float* out, const Bf16Bits* a, const Bf16Bits* b, int columns, bool split, Stream stream) {
  constexpr size_t kShared = 2 * kProbeDepth * kTileRowBytes + kTileAlignment;
  check_argument(columns == 64 || columns == 80 || columns == 128, "probe_rows_product", "64, 80 or 128 columns");
  check_argument(!split || columns == 80, "probe_rows_product", "80 columns where they are split");
  if (split) {
    VL2_LAUNCH((rows_product_kernel<80, true>), 1, 128, kShared, stream, out, a, b);
  } else if (columns == 64) {
    VL2_LAUNCH((rows_product_kernel<64, false>), 1, 128, kShared, stream, out, a, b);
  } else if (columns == 80) {
    VL2_LAUNCH((rows_product_kernel<80, false>), 1, 128, kShared, stream, out, a, b);
  } else {
    VL2_LAUNCH((rows_product_kernel<128, false>), 1, 128, kShared, stream, out, a, b);
  }
}

}  // namespace vl2::cuda

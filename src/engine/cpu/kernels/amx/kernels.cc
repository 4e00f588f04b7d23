// bf16 x bf16 and 8-bit codes on AMX tiles; everything else is the AVX-512 table's.
//
// A tile of weights is 16 pairs of k by 16 columns, just as a panel stores them; a tile of activations is 16 rows by 32
// k. Four tiles of sums (2 row tiles x 2 panels) share four loads, so each load feeds two multiplications. Sums over k
// always run in steps of 32 from 0 upwards and a tile's rows are independent: a row's bits do not depend on its
// neighbours.
#include <cmath>
#include <cstring>
#include <vector>

#include "engine/cpu/kernels/kernel_table.h"

#if defined(__x86_64__)

#include <immintrin.h>

// GCC 11 and 12 warn about their own _mm512_undefined_* (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#pragma GCC push_options
#pragma GCC target( \
    "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,amx-tile,amx-bf16,amx-int8,prefer-vector-width=512")

namespace vl2::cpu {
namespace amx {
// clang-format off
#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/generic/interleave-inl.h"
#include "engine/cpu/kernels/generic/math-inl.h"
#include "engine/cpu/kernels/generic/finish-inl.h"
#include "engine/cpu/kernels/generic/pages-inl.h"
#include "engine/cpu/kernels/amx/tiles-inl.h"
#include "engine/cpu/kernels/avx512/codes.h"
#include "engine/cpu/kernels/avx512vnni/dot_vnni.h"
#include "engine/cpu/kernels/generic/quant-inl.h"
#include "engine/cpu/kernels/generic/stream-inl.h"
#include "engine/cpu/kernels/amx/code-tiles-inl.h"
// clang-format on

// Two by two tiles, as the product kernel holds them, over operands in the first-level cache.
[[gnu::noinline]] int64_t peak(const void* data, int64_t rounds, float* sink) {
  const BF16* x = static_cast<const BF16*>(data);
  constexpr int64_t kTiles = kPeakBytes / 1024;
  configure_tiles();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t t = 0; t < kTiles; t += 4) {
      _tile_loadd(4, x + t * kTileElements, kTileStride);
      _tile_loadd(5, x + (t + 1) * kTileElements, kTileStride);
      _tile_loadd(6, x + (t + 2) * kTileElements, kTileStride);
      _tile_loadd(7, x + (t + 3) * kTileElements, kTileStride);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  alignas(64) float sums[kSumElements];
  _tile_stored(0, sums, kTileStride);
  _tile_release();
  *sink = sums[0];
  return rounds * kTiles * kTileRows * kPanel * kTileDepth * 2;
}

// The same for signed by unsigned bytes.
[[gnu::noinline]] int64_t peak_int8(const void* data, int64_t rounds, float* sink) {
  const auto* x = static_cast<const uint8_t*>(data);
  constexpr int64_t kTiles = kPeakBytes / kCodeTile;
  configure_tiles();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t t = 0; t < kTiles; t += 4) {
      _tile_loadd(4, x + t * kCodeTile, kTileStride);
      _tile_loadd(5, x + (t + 1) * kCodeTile, kTileStride);
      _tile_loadd(6, x + (t + 2) * kCodeTile, kTileStride);
      _tile_loadd(7, x + (t + 3) * kCodeTile, kTileStride);
      _tile_dpbsud(0, 4, 6);
      _tile_dpbsud(1, 4, 7);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    }
  }
  alignas(64) int32_t sums[kSumElements];
  _tile_stored(0, sums, kTileStride);
  _tile_release();
  *sink = static_cast<float>(sums[0]);
  return rounds * kTiles * kTileRows * kPanel * kQuantDepth * 2;
}

}  // namespace amx
}  // namespace vl2::cpu

#pragma GCC pop_options

namespace vl2::cpu {

const KernelTable& amx_kernels() {
  static const KernelTable table = [] {
    KernelTable t = avx512vnni_kernels();
    t.isa = "amx";
    t.bf16 = amx::kTileKernel;
    t.peak_bf16 = amx::peak;
    t.q8 = amx::kCodeKernel<amx::Bytes>;
    t.q4 = amx::kCodeKernel<amx::Nibbles>;
    t.peak_int8 = amx::peak_int8;
    return t;
  }();
  return table;
}

}  // namespace vl2::cpu

#else

namespace vl2::cpu {
const KernelTable& amx_kernels() { return scalar_kernels(); }
}  // namespace vl2::cpu

#endif

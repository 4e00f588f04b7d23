// wgmma of the software device. Products are done as late as CUDA allows: in the wait that ends them, so that a tile
// overwritten too early shows.
#include <bit>
#include <cstring>

#include "core/base/error.h"
#include "engine/cuda/device/warpgroup.h"

namespace vl2::cuda::software {
namespace {

constexpr uintptr_t kAlignment = kTileAlignment;

// Where shared memory's address 0 would be, so that addresses are aligned as pointers are.
uintptr_t shared_origin() { return reinterpret_cast<uintptr_t>(dynamic_shared()) / kAlignment * kAlignment; }

// Element (row, k) of what a descriptor describes, as a float.
float element(uint64_t descriptor, int row, int k) {
  const uint64_t between = (descriptor >> 32 & 0x3fff) * 16;
  uint64_t at = (descriptor & 0x3fff) * 16 + static_cast<uint64_t>(row / 8) * between +
                static_cast<uint64_t>(row % 8 * kTileRowBytes + k * 2);
  at ^= (at >> 7 & 7) << 4;
  uint16_t bits;
  std::memcpy(&bits, reinterpret_cast<const void*>(shared_origin() + at), sizeof bits);
  return std::bit_cast<float>(static_cast<unsigned>(bits) << 16);
}

void multiply(void* const* threads, unsigned product) {
  const auto of = [&](int thread) -> const WarpgroupProduct& {
    return (*static_cast<const std::vector<WarpgroupProduct>*>(threads[thread]))[product];
  };
  const WarpgroupProduct& first = of(0);
  for (int thread = 1; thread < 128; ++thread)
    VL2_CHECK(of(thread).a == first.a && of(thread).b == first.b && of(thread).columns == first.columns,
              "wgmma of a warpgroup whose threads differ about the tiles");
  for (const uint64_t descriptor : {first.a, first.b})
    VL2_CHECK(descriptor >> 62 == 1 && (descriptor >> 49 & 7) == 0,
              "wgmma of tiles that are not swizzled by 128 bytes");
  float a[64][16], b[256][16];
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 64; ++row) a[row][k] = element(first.a, row, k);
    for (int row = 0; row < first.columns; ++row) b[row][k] = element(first.b, row, k);
  }
  for (int thread = 0; thread < 128; ++thread) {
    const int row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
    float* c = of(thread).c;
    for (int i = 0; i < first.columns / 2; ++i) {
      const float *left = a[row + i % 4 / 2 * 8], *right = b[i / 4 * 8 + column + i % 2];
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += left[k] * right[k];
      c[i] += sum;
    }
  }
}

}  // namespace

unsigned shared_address(const void* p) {
  return static_cast<unsigned>(reinterpret_cast<uintptr_t>(p) - shared_origin());
}

void warpgroup_multiply(float* c, int columns, uint64_t a, uint64_t b) {
  const auto tile = [](uint64_t descriptor, int rows) -> WarpgroupProduct::Tile {
    const uint64_t at = (descriptor & 0x3fff) * 16 / kTileRowBytes * kTileRowBytes;
    const auto* begin = reinterpret_cast<const std::byte*>(shared_origin() + at);
    return {begin, begin + rows * kTileRowBytes};
  };
  warpgroup_record({c, columns, a, b, {tile(a, 64), tile(b, columns)}});
}

void warpgroup_wait(unsigned newest) { warpgroup_run(newest, multiply); }

}  // namespace vl2::cuda::software

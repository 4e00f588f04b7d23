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

// A descriptor's fields, in bytes: where the matrix begins, and its leading and its stride dimension's offset.
uint64_t start_of(uint64_t descriptor) { return (descriptor & 0x3fff) * 16; }
uint64_t leading_of(uint64_t descriptor) { return (descriptor >> 16 & 0x3fff) * 16; }
uint64_t stride_of(uint64_t descriptor) { return (descriptor >> 32 & 0x3fff) * 16; }

// The element at an offset from shared memory's address 0, swizzled by 128 bytes, as a float.
float element_at(uint64_t at) {
  at ^= (at >> 7 & 7) << 4;
  uint16_t bits;
  std::memcpy(&bits, reinterpret_cast<const void*>(shared_origin() + at), sizeof bits);
  return std::bit_cast<float>(static_cast<unsigned>(bits) << 16);
}

// Element (row, k) of a matrix whose rows lie along k ("K-major"): eight rows of 128 bytes, then the stride.
float element(uint64_t descriptor, int row, int k) {
  return element_at(start_of(descriptor) + static_cast<uint64_t>(row / 8) * stride_of(descriptor) +
                    static_cast<uint64_t>(row % 8 * 128 + k * 2));
}

// Element (column, k) of one that lies along columns ("MN-major"), in units of T = 8 elements the layout
// ((T, 8, m), (8, k)) : ((1, T, leading), (8T, stride)).
float element_along_columns(uint64_t descriptor, int column, int k) {
  return element_at(start_of(descriptor) + static_cast<uint64_t>(column % 8 * 2 + column / 8 % 8 * 16) +
                    static_cast<uint64_t>(column / 64) * leading_of(descriptor) + static_cast<uint64_t>(k % 8 * 128) +
                    static_cast<uint64_t>(k / 8) * stride_of(descriptor));
}

// One of the two bfloat16 of a word, as a float.
float half_of(unsigned word, int i) { return std::bit_cast<float>(i == 0 ? word << 16 : word & 0xffff0000u); }

void multiply(void* const* threads, unsigned product) {
  const auto of = [&](int thread) -> const WarpgroupProduct& {
    return (*static_cast<const std::vector<WarpgroupProduct>*>(threads[thread]))[product];
  };
  const WarpgroupProduct& first = of(0);
  for (int thread = 1; thread < 128; ++thread)
    VL2_CHECK(of(thread).a == first.a && of(thread).b == first.b && of(thread).columns == first.columns &&
                  of(thread).fresh == first.fresh && of(thread).along_columns == first.along_columns &&
                  (of(thread).a_rows == nullptr) == (first.a_rows == nullptr),
              "wgmma of a warpgroup whose threads differ about the tiles");
  for (const uint64_t descriptor : {first.a, first.b})
    VL2_CHECK(descriptor >> 62 == 1 && (descriptor >> 49 & 7) == 0,
              "wgmma of tiles that are not swizzled by 128 bytes");
  float a[64][16], b[256][16];
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 64; ++row) {
      if (first.a_rows == nullptr) {
        a[row][k] = element(first.a, row, k);
      } else {
        const unsigned* words = of(row / 16 * 32 + row % 8 * 4 + k % 8 / 2).a_rows;
        a[row][k] = half_of(words[row % 16 / 8 + k / 8 * 2], k % 2);
      }
    }
    for (int row = 0; row < first.columns; ++row)
      b[row][k] = first.along_columns ? element_along_columns(first.b, row, k) : element(first.b, row, k);
  }
  for (int thread = 0; thread < 128; ++thread) {
    const int row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
    float* c = of(thread).c;
    for (int i = 0; i < first.columns / 2; ++i) {
      const float *left = a[row + i % 4 / 2 * 8], *right = b[i / 4 * 8 + column + i % 2];
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += left[k] * right[k];
      c[i] = first.fresh ? sum : c[i] + sum;
    }
  }
}

}  // namespace

unsigned shared_address(const void* p) {
  return static_cast<unsigned>(reinterpret_cast<uintptr_t>(p) - shared_origin());
}

namespace {

// The memory of a matrix whose rows lie along k.
WarpgroupProduct::Tile tile_of(uint64_t descriptor, int rows) {
  const auto* begin = reinterpret_cast<const std::byte*>(shared_origin() + start_of(descriptor) / 128 * 128);
  return {begin, begin + rows * kTileRowBytes};
}

}  // namespace

void warpgroup_multiply(float* c, int columns, uint64_t a, uint64_t b, bool fresh) {
  warpgroup_record({c, columns, fresh, false, a, b, nullptr, {tile_of(a, 64), tile_of(b, columns)}});
}

void warpgroup_multiply(float* c, int columns, const unsigned* a, uint64_t b, bool fresh) {
  warpgroup_record({c, columns, fresh, false, b, b, a, {tile_of(b, columns), tile_of(b, columns)}});
}

void warpgroup_multiply_rows(float* c, int columns, const unsigned* a, uint64_t b) {
  const uint64_t second = b + (columns > 64 ? leading_of(b) / 16 : 0);
  warpgroup_record({c, columns, false, true, b, b, a, {tile_of(b, 16), tile_of(second, 16)}});
}

void warpgroup_wait(unsigned newest) { warpgroup_run(newest, multiply); }

}  // namespace vl2::cuda::software

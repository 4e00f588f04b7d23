// Products of a warpgroup: four warps, the first of them a multiple of four, that multiply tiles in shared memory by
// wgmma (sm_90a alone: elsewhere on a GPU these trap, so the host asks first). Every thread of the warpgroup calls
// them.
//
// A tile is rows of 64 bfloat16 (128 bytes) at a multiple of 1024 bytes; piece i of a row (16 bytes) stands where piece
// i ^ (row % 8) would: tile_piece(). C [64, columns] is A [64, 16] times B [columns, 16] transposed. With w = warp % 4,
// g = lane / 4, t = lane % 4 a thread has, of every eight columns j:
//   c[4j..4j + 1] (16w + g, 8j + 2t..)   c[4j + 2..4j + 3] (16w + g + 8, 8j + 2t..)
//
// A may stand in registers instead, four words a thread: what fragments of mma m16n8k16 are (tensor_core.h), those of a
// warp its 16 rows. C's registers of sixteen columns, in pairs, are such a fragment.
//
// Products run behind the thread's back: from warpgroup_begin() until warpgroup_wait() nobody may touch c, nor A's
// registers, nor overwrite the tiles. What threads copied to a tile must be seen by wgmma: each calls tiles_written()
// before the barrier.
#pragma once

#include "engine/cuda/device/tensor_core.h"

namespace vl2::cuda {

inline constexpr int kTileRowBytes = 128, kTileAlignment = 1024;

__device__ __forceinline__ unsigned char* tile_piece(unsigned char* tile, int row, int i) {
  return tile + row * kTileRowBytes + ((i ^ row) & 7) * 16;
}

#ifndef __CUDACC__
namespace software {
unsigned shared_address(const void* p);
void warpgroup_multiply(float* c, int columns, uint64_t a, uint64_t b, bool fresh);
void warpgroup_multiply(float* c, int columns, const unsigned* a, uint64_t b, bool fresh);
void warpgroup_multiply_rows(float* c, int columns, const unsigned* a, uint64_t b);
void warpgroup_commit();
void warpgroup_wait(unsigned newest);
}  // namespace software
using software::shared_address;
#endif

// How wgmma finds 16 k of a tile's rows, beginning with a row that is a multiple of 8 and with k (0, 16, 32, 48): the
// address and the 1024 bytes between eight rows, in units of 16 bytes; swizzled by 128 bytes. (The field at bit 16
// means nothing in this layout; 1 is the custom.)
__device__ __forceinline__ uint64_t tile_descriptor(const unsigned char* tile, int row, int k) {
  const unsigned at = shared_address(tile) + static_cast<unsigned>(row * kTileRowBytes + k * 2);
  return uint64_t{1} << 62 | uint64_t{1024 / 16} << 32 | uint64_t{1} << 16 | (at & 0x3ffff) / 16;
}

// How it finds a right factor that lies the other way around: a row of the tile is one k with 64 columns of B, columns
// from 64 on are in a second tile that begins `apart` bytes behind the first. 16 rows, beginning with a multiple of 8.
__device__ __forceinline__ uint64_t rows_descriptor(const unsigned char* tile, int row, int apart) {
  const unsigned at = shared_address(tile) + static_cast<unsigned>(row * kTileRowBytes);
  return uint64_t{1} << 62 | uint64_t{1024 / 16} << 32 | static_cast<uint64_t>(apart / 16) << 16 | (at & 0x3ffff) / 16;
}

#ifdef __CUDACC__

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define VL2_WARPGROUP_ASM(...) asm volatile(__VA_ARGS__)
#else
#define VL2_WARPGROUP_ASM(...) __trap()
#endif

__device__ __forceinline__ void tiles_written() { VL2_WARPGROUP_ASM("fence.proxy.async.shared::cta;" : : : "memory"); }
// Before the first product, and whenever c was touched.
__device__ __forceinline__ void warpgroup_begin() { VL2_WARPGROUP_ASM("wgmma.fence.sync.aligned;" : : : "memory"); }
// Ends a group of products. warpgroup_wait<n> waits for all groups but the newest n.
__device__ __forceinline__ void warpgroup_commit() {
  VL2_WARPGROUP_ASM("wgmma.commit_group.sync.aligned;" : : : "memory");
}
template <int newest>
__device__ __forceinline__ void warpgroup_wait() {
  VL2_WARPGROUP_ASM("wgmma.wait_group.sync.aligned %0;" : : "n"(newest) : "memory");
}

// Nothing is done to c's registers between what stands before this and what stands behind.
template <int registers>
__device__ __forceinline__ void warpgroup_keep(float (&c)[registers]) {
  VL2_UNROLL
  for (int i = 0; i < registers; ++i) asm volatile("" : "+f"(c[i]) : : "memory");
}
template <int products>
__device__ __forceinline__ void warpgroup_keep(unsigned (&a)[products][4]) {
  VL2_UNROLL
  for (int i = 0; i < products * 4; ++i) asm volatile("" : "+r"(a[i / 4][i % 4]) : : "memory");
}

// Registers of c, sixteen for each 32 columns.
#define VL2_C0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define VL2_C1 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define VL2_C2 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define VL2_C3 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define VL2_C4 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define VL2_C5 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define VL2_C6 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define VL2_C7 "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define VL2_C_IN4(c, i) "+f"(c[i]), "+f"(c[(i) + 1]), "+f"(c[(i) + 2]), "+f"(c[(i) + 3])
#define VL2_C_IN(c, i) VL2_C_IN4(c, i), VL2_C_IN4(c, (i) + 4), VL2_C_IN4(c, (i) + 8), VL2_C_IN4(c, (i) + 12)
#define VL2_WGMMA(columns, registers, a_register, b_register, ...)                                               \
  VL2_WARPGROUP_ASM("wgmma.mma_async.sync.aligned.m64n" columns "k16.f32.bf16.bf16 {" registers "}, " a_register \
                    ", " b_register ", 1, 1, 1, 0, 0;"                                                           \
                    : __VA_ARGS__                                                                                \
                    : "l"(a), "l"(b))
#define VL2_WGMMA_FRESH(columns, registers, a_register, b_register, ...)                                         \
  VL2_WARPGROUP_ASM("wgmma.mma_async.sync.aligned.m64n" columns "k16.f32.bf16.bf16 {" registers "}, " a_register \
                    ", " b_register ", 0, 1, 1, 0, 0;"                                                           \
                    : __VA_ARGS__                                                                                \
                    : "l"(a), "l"(b))
// A in registers. `how`: whether c is added to, the signs of A and B, and whether B lies along columns.
#define VL2_WGMMA_HELD(how, columns, registers, a_registers, b_register, ...)                                      \
  VL2_WARPGROUP_ASM("wgmma.mma_async.sync.aligned.m64n" columns "k16.f32.bf16.bf16 {" registers "}, {" a_registers \
                    "}, " b_register ", " how ";"                                                                  \
                    : __VA_ARGS__                                                                                  \
                    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

// c += A B^T, sums in float32; columns is a multiple of 32, 256 at most.
template <int columns>
__device__ __forceinline__ void warpgroup_multiply(float (&c)[columns / 2], uint64_t a, uint64_t b) {
  static_assert(columns % 32 == 0 && columns > 0 && columns <= 256);
  if constexpr (columns == 32) {
    VL2_WGMMA("32", VL2_C0, "%16", "%17", VL2_C_IN(c, 0));
  } else if constexpr (columns == 64) {
    VL2_WGMMA("64", VL2_C0 ", " VL2_C1, "%32", "%33", VL2_C_IN(c, 0), VL2_C_IN(c, 16));
  } else if constexpr (columns == 96) {
    VL2_WGMMA("96", VL2_C0 ", " VL2_C1 ", " VL2_C2, "%48", "%49", VL2_C_IN(c, 0), VL2_C_IN(c, 16), VL2_C_IN(c, 32));
  } else if constexpr (columns == 128) {
    VL2_WGMMA("128", VL2_C0 ", " VL2_C1 ", " VL2_C2 ", " VL2_C3, "%64", "%65", VL2_C_IN(c, 0), VL2_C_IN(c, 16),
              VL2_C_IN(c, 32), VL2_C_IN(c, 48));
  } else if constexpr (columns == 160) {
    VL2_WGMMA("160", VL2_C0 ", " VL2_C1 ", " VL2_C2 ", " VL2_C3 ", " VL2_C4, "%80", "%81", VL2_C_IN(c, 0),
              VL2_C_IN(c, 16), VL2_C_IN(c, 32), VL2_C_IN(c, 48), VL2_C_IN(c, 64));
  } else if constexpr (columns == 192) {
    VL2_WGMMA("192", VL2_C0 ", " VL2_C1 ", " VL2_C2 ", " VL2_C3 ", " VL2_C4 ", " VL2_C5, "%96", "%97", VL2_C_IN(c, 0),
              VL2_C_IN(c, 16), VL2_C_IN(c, 32), VL2_C_IN(c, 48), VL2_C_IN(c, 64), VL2_C_IN(c, 80));
  } else if constexpr (columns == 224) {
    VL2_WGMMA("224", VL2_C0 ", " VL2_C1 ", " VL2_C2 ", " VL2_C3 ", " VL2_C4 ", " VL2_C5 ", " VL2_C6, "%112", "%113",
              VL2_C_IN(c, 0), VL2_C_IN(c, 16), VL2_C_IN(c, 32), VL2_C_IN(c, 48), VL2_C_IN(c, 64), VL2_C_IN(c, 80),
              VL2_C_IN(c, 96));
  } else if constexpr (columns == 256) {
    VL2_WGMMA("256", VL2_C0 ", " VL2_C1 ", " VL2_C2 ", " VL2_C3 ", " VL2_C4 ", " VL2_C5 ", " VL2_C6 ", " VL2_C7, "%128",
              "%129", VL2_C_IN(c, 0), VL2_C_IN(c, 16), VL2_C_IN(c, 32), VL2_C_IN(c, 48), VL2_C_IN(c, 64),
              VL2_C_IN(c, 80), VL2_C_IN(c, 96), VL2_C_IN(c, 112));
  }
}

template <int columns>
__device__ __forceinline__ void warpgroup_multiply(float (&c)[columns / 2], const unsigned (&a)[4], uint64_t b) {
  static_assert(columns == 64 || columns == 128);
  if constexpr (columns == 64) {
    VL2_WGMMA_HELD("1, 1, 1, 0", "64", VL2_C0 ", " VL2_C1, "%32, %33, %34, %35", "%36", VL2_C_IN(c, 0),
                   VL2_C_IN(c, 16));
  } else {
    VL2_WGMMA_HELD("1, 1, 1, 0", "128", VL2_C0 ", " VL2_C1 ", " VL2_C2 ", " VL2_C3, "%64, %65, %66, %67", "%68",
                   VL2_C_IN(c, 0), VL2_C_IN(c, 16), VL2_C_IN(c, 32), VL2_C_IN(c, 48));
  }
}

// c = A B^T.
template <int columns>
__device__ __forceinline__ void warpgroup_multiply_fresh(float (&c)[columns / 2], uint64_t a, uint64_t b) {
  static_assert(columns == 64 || columns == 128);
  if constexpr (columns == 64) {
    VL2_WGMMA_FRESH("64", VL2_C0 ", " VL2_C1, "%32", "%33", VL2_C_IN(c, 0), VL2_C_IN(c, 16));
  } else {
    VL2_WGMMA_FRESH("128", VL2_C0 ", " VL2_C1 ", " VL2_C2 ", " VL2_C3, "%64", "%65", VL2_C_IN(c, 0), VL2_C_IN(c, 16),
                    VL2_C_IN(c, 32), VL2_C_IN(c, 48));
  }
}
template <int columns>
__device__ __forceinline__ void warpgroup_multiply_fresh(float (&c)[columns / 2], const unsigned (&a)[4], uint64_t b) {
  static_assert(columns == 64 || columns == 128);
  if constexpr (columns == 64) {
    VL2_WGMMA_HELD("0, 1, 1, 0", "64", VL2_C0 ", " VL2_C1, "%32, %33, %34, %35", "%36", VL2_C_IN(c, 0),
                   VL2_C_IN(c, 16));
  } else {
    VL2_WGMMA_HELD("0, 1, 1, 0", "128", VL2_C0 ", " VL2_C1 ", " VL2_C2 ", " VL2_C3, "%64, %65, %66, %67", "%68",
                   VL2_C_IN(c, 0), VL2_C_IN(c, 16), VL2_C_IN(c, 32), VL2_C_IN(c, 48));
  }
}

// c[first / 2..] += A B of `columns` columns; A in registers, B where rows_descriptor() says.
template <int columns, int first = 0, int registers>
__device__ __forceinline__ void warpgroup_multiply_rows(float (&c)[registers], const unsigned (&a)[4], uint64_t b) {
  static_assert(columns == 16 || columns == 64 || columns == 80 || columns == 128);
  static_assert(first % 8 == 0 && (first + columns) / 2 <= registers);
  constexpr int kC = first / 2;
  if constexpr (columns == 16) {
    VL2_WGMMA_HELD("1, 1, 1, 1", "16", "%0, %1, %2, %3, %4, %5, %6, %7", "%8, %9, %10, %11", "%12", VL2_C_IN4(c, kC),
                   VL2_C_IN4(c, kC + 4));
  } else if constexpr (columns == 64) {
    VL2_WGMMA_HELD("1, 1, 1, 1", "64", VL2_C0 ", " VL2_C1, "%32, %33, %34, %35", "%36", VL2_C_IN(c, kC),
                   VL2_C_IN(c, kC + 16));
  } else if constexpr (columns == 80) {
    VL2_WGMMA_HELD("1, 1, 1, 1", "80", VL2_C0 ", " VL2_C1 ", %32, %33, %34, %35, %36, %37, %38, %39",
                   "%40, %41, %42, %43", "%44", VL2_C_IN(c, kC), VL2_C_IN(c, kC + 16), VL2_C_IN4(c, kC + 32),
                   VL2_C_IN4(c, kC + 36));
  } else {
    VL2_WGMMA_HELD("1, 1, 1, 1", "128", VL2_C0 ", " VL2_C1 ", " VL2_C2 ", " VL2_C3, "%64, %65, %66, %67", "%68",
                   VL2_C_IN(c, kC), VL2_C_IN(c, kC + 16), VL2_C_IN(c, kC + 32), VL2_C_IN(c, kC + 48));
  }
}

#undef VL2_C0
#undef VL2_C1
#undef VL2_C2
#undef VL2_C3
#undef VL2_C4
#undef VL2_C5
#undef VL2_C6
#undef VL2_C7
#undef VL2_C_IN4
#undef VL2_C_IN
#undef VL2_WGMMA
#undef VL2_WGMMA_FRESH
#undef VL2_WGMMA_HELD
#undef VL2_WARPGROUP_ASM

#else

inline void tiles_written() {}
inline void warpgroup_begin() {}
inline void warpgroup_commit() { software::warpgroup_commit(); }
template <int newest>
void warpgroup_wait() {
  software::warpgroup_wait(newest);
}
template <int registers>
void warpgroup_keep(float (&)[registers]) {}
template <int products>
void warpgroup_keep(unsigned (&)[products][4]) {}
template <int columns>
void warpgroup_multiply(float (&c)[columns / 2], uint64_t a, uint64_t b) {
  static_assert(columns % 32 == 0 && columns > 0 && columns <= 256);
  software::warpgroup_multiply(c, columns, a, b, false);
}
template <int columns>
void warpgroup_multiply_fresh(float (&c)[columns / 2], uint64_t a, uint64_t b) {
  software::warpgroup_multiply(c, columns, a, b, true);
}
template <int columns>
void warpgroup_multiply(float (&c)[columns / 2], const unsigned (&a)[4], uint64_t b) {
  software::warpgroup_multiply(c, columns, a, b, false);
}
template <int columns>
void warpgroup_multiply_fresh(float (&c)[columns / 2], const unsigned (&a)[4], uint64_t b) {
  software::warpgroup_multiply(c, columns, a, b, true);
}
template <int columns, int first = 0, int registers>
void warpgroup_multiply_rows(float (&c)[registers], const unsigned (&a)[4], uint64_t b) {
  static_assert(first % 8 == 0 && (first + columns) / 2 <= registers);
  software::warpgroup_multiply_rows(c + first / 2, columns, a, b);
}

#endif

}  // namespace vl2::cuda

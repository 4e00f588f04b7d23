// Codes of q8 and q4 panels as pairs of bfloat16, exactly, a few operations a pair. For kernels.
//
// A word is what a panel holds of one row: q8 [k0 k1 k2 k3], q4 [k0|k4 k1|k5 k2|k6 k3|k7] (low|high nibble). Pairs are
// (k0, k2), (k1, k3), ..: what lies 16 bits apart needs no shuffling, and a product does not care about the order of k.
#pragma once

#include "engine/cuda/device/kernel_language.h"
#include "engine/cuda/device/reduce.h"

namespace vl2::cuda {

// x - y for pairs of small whole numbers: exact.
__device__ __forceinline__ unsigned bf16_minus(unsigned x, unsigned minus_y) {
#ifdef __CUDA_ARCH__
  unsigned result;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(x), "r"(0x3f803f80u), "r"(minus_y));
  return result;
#else
  return bf16_pair(bf16_low(x) + bf16_low(minus_y), bf16_high(x) + bf16_high(minus_y));
#endif
}

// Bytes 0 and 2 of a q8 word: byte - 128. Seven bits fit behind 128's exponent; the eighth chooses what to subtract.
__device__ __forceinline__ unsigned q8_pair(unsigned word) {
  return bf16_minus((word & 0x007f007fu) | 0x43004300u, (word & 0x00800080u) ^ 0xc380c380u);
}
// The lowest nibbles of both halves of a q4 word: nibble - 8.
__device__ __forceinline__ unsigned q4_pair(unsigned word) {
  return bf16_minus((word & 0x000f000fu) | 0x43004300u, 0xc308c308u);
}

}  // namespace vl2::cuda

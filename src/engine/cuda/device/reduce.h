// Sums and maxima over a warp or a block, and pairs of bfloat16 in a word. For kernels.
#pragma once

#include "engine/cuda/device/kernel_language.h"

namespace vl2::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;

// Every lane gets the result; `width` neighbouring lanes (a power of two) each on their own.
template <int width = 32>
__device__ __forceinline__ float warp_sum(float x) {
  VL2_UNROLL
  for (int bits = width / 2; bits > 0; bits /= 2) x += __shfl_xor_sync(kAllLanes, x, bits);
  return x;
}
template <int width = 32>
__device__ __forceinline__ float warp_max(float x) {
  VL2_UNROLL
  for (int bits = width / 2; bits > 0; bits /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, bits));
  return x;
}

// Every thread gets the result; blocks of x alone. `scratch` is 32 floats of shared memory, free again afterwards.
__device__ __forceinline__ float block_sum(float x, float* scratch) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? scratch[threadIdx.x % 32] : 0.0f);
  __syncthreads();
  return x;
}
__device__ __forceinline__ float block_max(float x, float* scratch) {
  x = warp_max(x);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = warp_max(threadIdx.x % 32 < blockDim.x / 32 ? scratch[threadIdx.x % 32] : scratch[0]);
  __syncthreads();
  return x;
}

__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

// Two bfloat16 in a word, the first in the lower half.
__device__ __forceinline__ float bf16_low(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16_high(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ __forceinline__ float bf16_float(uint16_t bits) {
  return __uint_as_float(static_cast<unsigned>(bits) << 16);
}

// To nearest, ties to even; a NaN stays a NaN.
__device__ __forceinline__ uint16_t float_bf16(float x) {
  unsigned bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
__device__ __forceinline__ unsigned bf16_pair(float low, float high) {
#ifdef __CUDA_ARCH__
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return static_cast<unsigned>(float_bf16(low)) | static_cast<unsigned>(float_bf16(high)) << 16;
#endif
}

}  // namespace vl2::cuda

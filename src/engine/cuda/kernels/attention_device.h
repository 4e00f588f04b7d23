// What attention kernels share on the device. Included by .cu files alone.
#pragma once

#include "engine/cuda/device/kernel_language.h"
#include "engine/cuda/device/reduce.h"
#include "engine/cuda/device/tensor_core.h"
#include "engine/cuda/kernels/check_argument.h"
#include "engine/cuda/kernels/matrix.h"
#include "engine/cuda/kernels/sequences.h"

namespace vl2::cuda {

// Exponentials are taken to the base of two: scores are multiplied by scale * kLog2E first.
inline constexpr float kLog2E = 1.44269504088896340736f;

// 2^x in one instruction, good to two units in the last place; for softmax weights that are rounded to bfloat16.
__device__ __forceinline__ float exp2_fast(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}

// Where token `token` of a sequence lies, in rows of the cache.
__device__ inline int64_t cache_row(const CacheView& cache, const int32_t* blocks, int token) {
  const int block = token / cache.block_tokens;
  return static_cast<int64_t>(blocks[block]) * cache.block_tokens + (token - block * cache.block_tokens);
}

// Where tokens first .. first + count - 1 begin, in values; -1 up to `keys`. A barrier must follow: then a thread that
// copies a part of a token need not divide, nor wait for the block table.
__device__ inline void find_tokens(int64_t* places, const CacheView& cache, const int32_t* blocks, int first, int count,
                                   int keys) {
  for (int i = static_cast<int>(threadIdx.x); i < keys; i += static_cast<int>(blockDim.x))
    places[i] = i < count ? cache_row(cache, blocks, first + i) * cache.width : -1;
}

// Walks the chunks of a tile's rows, a thread every `step` of them, without a division each time.
struct ChunkWalk {
  __device__ ChunkWalk(int first, int step, int chunks_)
      : chunks(chunks_),
        key(first / chunks_),
        chunk(first % chunks_),
        keys_step(step / chunks_),
        chunk_step(step % chunks_) {}
  __device__ void next() {
    key += keys_step;
    chunk += chunk_step;
    if (chunk < chunks) return;
    chunk -= chunks;
    ++key;
  }
  int chunks, key, chunk, keys_step, chunk_step;
};

__device__ inline bool is_aligned16(const void* p) { return (reinterpret_cast<uintptr_t>(p) & 15) == 0; }

// Eight bfloat16 in 16 bytes, as floats.
__device__ inline void widen8(uint4 bits, float (&out)[8]) {
  const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
  VL2_UNROLL
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = __uint_as_float(words[i] << 16);
    out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

__device__ inline uint4 narrow8(const float (&x)[8]) {
  return make_uint4(bf16_pair(x[0], x[1]), bf16_pair(x[2], x[3]), bf16_pair(x[4], x[5]), bf16_pair(x[6], x[7]));
}

// Eight neighbours from `p` on as floats; 16-byte loads where p allows them.
__device__ inline void load8(const float* p, float (&out)[8]) {
  if (is_aligned16(p)) {
    const float4 a = reinterpret_cast<const float4*>(p)[0], b = reinterpret_cast<const float4*>(p)[1];
    out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w, out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
    return;
  }
  VL2_UNROLL
  for (int i = 0; i < 8; ++i) out[i] = p[i];
}

__device__ inline void load8(const Bf16Bits* p, float (&out)[8]) {
  if (is_aligned16(p)) return widen8(*reinterpret_cast<const uint4*>(p), out);
  VL2_UNROLL
  for (int i = 0; i < 8; ++i) out[i] = bf16_float(p[i]);
}

__device__ inline float as_float(float x) { return x; }
__device__ inline float as_float(Bf16Bits x) { return bf16_float(x); }

}  // namespace vl2::cuda

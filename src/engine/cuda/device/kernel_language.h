// The language kernels are written in: CUDA where nvcc compiles a file, plain C++ for the software device elsewhere.
//
// __global__, __device__, __shared__, threadIdx, __syncthreads and warp shuffles mean the same in both worlds. What
// cannot be spelt alike has a VL2_ name:
//
//   VL2_DYNAMIC_SHARED(float, tile);                            // extern __shared__ float tile[]
//   VL2_UNROLL                                                  // #pragma unroll
//   VL2_LAUNCH((kernel<8>), grid, block, bytes, stream, a, b);  // kernel<8><<<grid, block, bytes, stream>>>(a, b)
//
// Blocks have whole warps. Static shared memory is written `__shared__ float tile[32][33];`, aligned with
// `__shared__ __align__(16) float tile[...]`. mma, ldmatrix and cp.async: tensor_core.h. Reductions: reduce.h.
// Included by .cu files (and their tests) alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/cuda/device/launch.h"

#ifdef __CUDACC__

// fmt 9 does without constexpr under nvcc, but not everywhere, and does not compile. So this header comes before any
// that includes fmt.
#ifndef FMT_USE_CONSTEXPR
#define FMT_USE_CONSTEXPR 1
#endif

#include <cuda_runtime.h>

#include <utility>

#define VL2_UNROLL _Pragma("unroll")
#define VL2_DYNAMIC_SHARED(type, name)                                 \
  extern __shared__ __align__(128) unsigned char vl2_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(vl2_dynamic_shared)

namespace vl2::cuda {

template <typename... Params, typename... Args>
void launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared, Stream stream,
            Args&&... args) {
  allow_shared(name, reinterpret_cast<const void*>(kernel), shared);
  kernel<<<grid, block, shared, stream>>>(static_cast<Params>(std::forward<Args>(args))...);
  check_launch(name);
}

}  // namespace vl2::cuda

#else

#include "engine/cuda/device/software_language.h"

#endif

#define VL2_LAUNCH(kernel, grid, block, shared, stream, ...) \
  ::vl2::cuda::launch(#kernel, kernel, grid, block, shared, stream __VA_OPT__(, ) __VA_ARGS__)

// The language kernels are written in: CUDA where nvcc compiles a file, plain C++ for the software device elsewhere.
//
// __global__, __device__, __shared__, threadIdx, __syncthreads and warp shuffles mean the same in both worlds. What
// cannot be spelt alike has a VL2_ name:
//
//   VL2_DYNAMIC_SHARED(float, tile);                            // extern __shared__ float tile[]
//   VL2_UNROLL                                                  // #pragma unroll
//   VL2_LAUNCH((kernel<8>), grid, block, bytes, stream, a, b);  // kernel<8><<<grid, block, bytes, stream>>>(a, b)
//   VL2_LAUNCH_EARLY(...)                                       // the same; may begin while the kernel before runs
//
// A kernel that is launched early calls await_earlier_kernels() in every thread, before anything that another kernel
// writes is read, and before anything is written. What it does before that (fetching weights) costs no time of its own.
// When it begins, the kernels before the one it waits for are done, if that one waits too.
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

template <typename... Params, typename... Args>
void launch_early(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared, Stream stream,
                  Args&&... args) {
  allow_shared(name, reinterpret_cast<const void*>(kernel), shared);
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = knows_to_wait(reinterpret_cast<const void*>(kernel)) ? 1 : 0;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = 1;
  (void)cudaLaunchKernelEx(&config, kernel, static_cast<Params>(std::forward<Args>(args))...);  // the next line asks
  check_launch(name);
}

// The cache line at p on its way to the second-level cache.
__device__ __forceinline__ void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" : : "l"(p)); }

__device__ __forceinline__ void await_earlier_kernels() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" : : : "memory");
  asm volatile("griddepcontrol.launch_dependents;" : : : "memory");
#endif
}

}  // namespace vl2::cuda

#else

#include "engine/cuda/device/software_language.h"

#endif

#define VL2_LAUNCH(kernel, grid, block, shared, stream, ...) \
  ::vl2::cuda::launch(#kernel, kernel, grid, block, shared, stream __VA_OPT__(, ) __VA_ARGS__)
#define VL2_LAUNCH_EARLY(kernel, grid, block, shared, stream, ...) \
  ::vl2::cuda::launch_early(#kernel, kernel, grid, block, shared, stream __VA_OPT__(, ) __VA_ARGS__)

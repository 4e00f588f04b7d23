// Launches on a real device; compiled where the CUDA toolkit is.
#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <utility>

#include "core/base/error.h"
#include "engine/cuda/device/launch.h"

namespace vl2::cuda {

void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    fail(ErrorCode::kInternal, "[cuda] launch of {} failed: {}", kernel, cudaGetErrorString(error));
}

CurrentDevice current_device() {
  int device = 0;
  CurrentDevice current;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&current.major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&current.multiprocessors, cudaDevAttrMultiProcessorCount, device);
  return current;
}

void allow_shared(const char* name, const void* kernel, size_t bytes) {
  constexpr size_t kAlways = 48 << 10;
  if (bytes <= kAlways) return;
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, size_t> limits;  // asked for so far: the call is slow
  int device = 0;
  cudaGetDevice(&device);
  const std::lock_guard<std::mutex> lock(mutex);
  size_t& limit = limits[{kernel, device}];
  if (bytes <= limit) return;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess)
    fail(ErrorCode::kInternal, "[cuda] {} needs {} bytes of shared memory: {}", name, bytes, cudaGetErrorString(error));
  limit = bytes;
}

bool knows_to_wait(const void* kernel) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, bool> known;
  int device = 0;
  cudaGetDevice(&device);
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [at, is_new] = known.try_emplace({kernel, device}, false);
  if (!is_new) return at->second;
  int major = 0;
  cudaFuncAttributes attributes{};
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaFuncGetAttributes(&attributes, kernel) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  // Code of an older generation, compiled by the driver, has no such instruction.
  return at->second = major >= 9 && attributes.ptxVersion >= 90;
}

}  // namespace vl2::cuda

// The CUDA backend: weights in the memory of a GPU, kernels of this folder, cuBLASLt for large products.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/ops/compute.h"
#include "engine/ops/limits.h"
#include "engine/ops/ops.h"

namespace vl2 {

struct CudaOptions {
  int device = 0;
  Compute compute = Compute::kAuto;  // auto: bfloat16 where the first matrix is not float32
  bool bf16_cache = false;           // keys and values rounded when they are stored
  // Set: of the decoder's layers the first `expert_layers` have their routed experts on the card, all others in this
  // backend, whose tensors lie on the host.
  std::shared_ptr<Ops> expert_host = nullptr;
  int64_t expert_layers = 0;
};

// Devices this build can use and this machine has; 0 in a build without CUDA.
int cuda_devices();
bool cuda_is_usable(int device);  // there, and new enough for the kernels
// kUnsupported: a build without CUDA, or no such device; the message says what to do.
std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options = {});
std::unique_ptr<LimitMeter> make_cuda_limit_meter(const CudaOptions& options);
int64_t cuda_free_memory(int device);  // bytes

}  // namespace vl2

#include "train/model/device.h"

#include <ATen/Context.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include "core/base/error.h"

namespace vl2::train {

at::Device training_device(const std::string& name) {
  const bool found = torch::cuda::is_available();
  if (name == "cpu" || (name == "auto" && !found)) return at::kCPU;
  if (!found)
    fail(ErrorCode::kUnsupported,
         "device {}: libtorch {} finds no GPU; build against a libtorch with CUDA on a machine that has one, or set "
         "device to cpu",
         name, TORCH_VERSION);
#if TORCH_VERSION_MAJOR >= 2
  at::globalContext().setSDPUseCuDNN(false);  // it plans anew for every shape, and no two batches have the same
#endif
  const at::Device device = name == "auto" || name == "cuda" ? at::Device(at::kCUDA, 0) : at::Device(name);
  const auto count = static_cast<int64_t>(torch::cuda::device_count());
  if (device.index() >= count)
    fail(ErrorCode::kUnsupported, "device {}: this machine has {} GPUs, numbered from 0", name, count);
  return device;
}

}  // namespace vl2::train

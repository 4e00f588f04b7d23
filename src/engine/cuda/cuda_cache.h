// Keys and values (or latents) in device memory: [layer][block][token][width], float32 or bfloat16.
#pragma once

#include <memory>

#include "engine/cuda/device/device.h"
#include "engine/cuda/kernels/sequences.h"
#include "engine/ops/weight.h"

namespace vl2::cuda {

class CudaCache : public KvCache {
 public:
  CudaCache(std::shared_ptr<Device> device, bool bf16, int64_t layers, int64_t blocks, int64_t block_tokens,
            int64_t width);
  int64_t num_bytes() const override;
  void read(int64_t layer, std::span<const int32_t> blocks, int64_t token, float* out) const override;

  CacheView view(int64_t layer) const;

 private:
  int64_t value_bytes() const { return bf16_ ? 2 : 4; }

  std::shared_ptr<Device> device_;
  bool bf16_;
  DeviceBuffer data_;
};

}  // namespace vl2::cuda

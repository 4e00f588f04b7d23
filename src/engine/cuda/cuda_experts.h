// Router and routed experts on the device.
#pragma once

#include "engine/cuda/cuda_context.h"

namespace vl2::cuda {

class Experts {
 public:
  explicit Experts(Device& device) : device_(device) {}

  void route(const CudaContext& context, Routing& routing, Tensor x, const Weight& gate, const Weight& bias,
             const RouterParams& params);
  void routed_experts(const CudaContext& context, Tensor out, Tensor x, const Routing& routing,
                      const ExpertWeights& experts);

 private:
  Device& device_;
};

}  // namespace vl2::cuda

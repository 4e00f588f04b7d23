// Router and routed experts on the device.
#pragma once

#include <map>

#include "engine/cuda/cuda_context.h"
#include "engine/cuda/kernels/experts.h"

namespace vl2::cuda {

// Remembers where each layer's experts lie; one thread, as its Ops.
class ExpertCalls {
 public:
  explicit ExpertCalls(Device& device) : device_(device) {}

  void route(const CudaContext& context, Routing& routing, Tensor x, const Weight& gate, const Weight& bias,
             const RouterParams& params);
  // shared: nullptr, or a block of every token that is added. add: out += instead of out =.
  void run(const CudaContext& context, Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts,
           const GatedMlp* shared, bool add = false);
  const void* counters_place() const { return counters_.data(); }

 private:
  struct Layer {
    std::vector<ExpertPointers> pointers;  // as uploaded
    DeviceBuffer table;
  };
  const ExpertPointers* table_of(const ExpertWeights& experts);
  int32_t* counters(int64_t count);  // zeros between calls

  Device& device_;
  std::map<const void*, Layer> layers_;  // by the first matrix
  DeviceBuffer counters_;
};

}  // namespace vl2::cuda

// Routed experts that a card has no room for: packed and multiplied by a backend on the host. A layer's tokens are
// copied there, with their experts' numbers and weights, and the sums come back.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "engine/cuda/cuda_context.h"
#include "engine/ops/ops.h"

namespace vl2::cuda {

class HostExperts {
 public:
  // Of the layers from `first_layer` on; nullptr: there are none.
  HostExperts(std::shared_ptr<Ops> host, int64_t first_layer) : host_(std::move(host)), first_layer_(first_layer) {}

  explicit operator bool() const { return host_ != nullptr; }
  bool holds(int64_t layer) const { return host_ != nullptr && layer >= first_layer_; }
  bool holds(const ExpertWeights& experts) const;
  Ops& ops() const { return *host_; }
  int64_t first_layer() const { return first_layer_; }

  // out = the experts' sum for the rows of x. `meanwhile` is called when the host has what it needs: what it starts on
  // the card runs beside the host's work. It must not write what the card has to read after it: x, routing.
  void run(const CudaContext& context, Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts,
           const std::function<void()>& meanwhile) const;

 private:
  std::shared_ptr<Ops> host_;
  int64_t first_layer_ = 0;
};

}  // namespace vl2::cuda

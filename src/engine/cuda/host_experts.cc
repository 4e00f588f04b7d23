#include "engine/cuda/host_experts.h"

namespace vl2::cuda {

bool HostExperts::holds(const ExpertWeights& experts) const {
  return host_ != nullptr &&
         dynamic_cast<const DeviceMatrix*>(experts.experts.front().gate.weight.storage.get()) == nullptr;
}

void HostExperts::run(const CudaContext& context, Tensor out, Tensor x, const Routing& routing,
                      const ExpertWeights& experts, const std::function<void()>& meanwhile) const {
  Device& device = context.device;
  const auto width = static_cast<size_t>(x.cols) * sizeof(float), rows = static_cast<size_t>(x.rows);
  const auto pitch = [](Tensor t) { return static_cast<size_t>(t.row_stride) * sizeof(float); };
  Workspace::Scope scope(host_->workspace());
  Tensor host_x = host_->workspace().tensor(x.rows, x.cols), host_out = host_->workspace().tensor(out.rows, out.cols);
  Routing host_routing = routing;  // sizes; the scores are of no use any more
  host_routing.scores = host_routing.choice = {};
  host_routing.expert = host_->workspace().array<int32_t>(static_cast<int64_t>(routing.expert.size()));
  host_routing.weight = host_->workspace().array<float>(static_cast<int64_t>(routing.weight.size()));
  device.download_rows(host_x.data, pitch(host_x), x.data, pitch(x), width, rows);
  device.download(host_routing.expert.data(), routing.expert.data(), routing.expert.size_bytes());
  device.download(host_routing.weight.data(), routing.weight.data(), routing.weight.size_bytes());
  meanwhile();
  host_->routed_experts(host_out, host_x, host_routing, experts);
  host_->wait();
  device.upload_rows(out.data, pitch(out), host_out.data, pitch(host_out), width, rows);
}

}  // namespace vl2::cuda

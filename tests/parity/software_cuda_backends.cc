// Instead of backends.cc: the CUDA backend's host code and kernels on the software device, beside the reference. Run
// where there is no GPU; no program a user starts knows it.
#include "engine/cuda/cuda_ops.h"
#include "engine/reference/reference_ops.h"
#include "parity/backends.h"

namespace vl2::parity {
namespace {

Backend software(const std::string& suffix, const CudaOptions& options) {
  return {"cuda_software" + suffix, [options] { return make_cuda_ops(options); }, options.compute == Compute::kBF16,
          false};
}

}  // namespace

const std::vector<Backend>& backends() {
  static const std::vector<Backend> kBackends = {{"reference", [] { return make_reference_ops(); }},
                                                 software("", {.compute = Compute::kF32})};
  return kBackends;
}

const std::vector<Backend>& rounding_backends() {
  static const std::vector<Backend> kBackends = {software("_bf16compute", {.compute = Compute::kBF16})};
  return kBackends;
}

const std::vector<Backend>& narrow_cache_backends() {
  static const std::vector<Backend> kBackends = {
      software("_bf16cache", {.compute = Compute::kF32, .bf16_cache = true})};
  return kBackends;
}

}  // namespace vl2::parity

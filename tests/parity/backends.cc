#include "parity/backends.h"

#include "engine/cpu/cpu_ops.h"
#include "engine/cuda/cuda_ops.h"
#include "engine/reference/reference_ops.h"

namespace vl2::parity {
namespace {

// The CPU backend once for every instruction set this machine has.
std::vector<Backend> cpu_backends(Compute compute, bool bf16_cache = false) {
  std::vector<Backend> result;
  for (Isa isa : available_isas()) {
    CpuOptions options;
    options.isa = isa;
    options.compute = compute;
    options.bf16_cache = bf16_cache;
    const bool rounds = compute == Compute::kBF16;
    result.push_back({fmt::format("cpu_{}{}", isa_name(isa),
                                  rounds       ? "_bf16compute"
                                  : bf16_cache ? "_bf16cache"
                                               : ""),
                      [options] { return make_cpu_ops(options); }, rounds});
  }
  return result;
}

// What a model in codes gets where the unit multiplies bf16.
void add_bf16_attention(std::vector<Backend>& list) {
  for (Isa isa : available_isas()) {
    if (isa != Isa::kAvx512Bf16) continue;
    const CpuOptions options{
        .threads = 0, .compute = Compute::kF32, .bf16_cache = true, .bf16_attention = true, .isa = isa};
    list.push_back(
        {fmt::format("cpu_{}_bf16attention", isa_name(isa)), [options] { return make_cpu_ops(options); }, true});
  }
}

// The first GPU, where this was built for one and there is one.
void add_cuda(std::vector<Backend>& list, const std::string& suffix, const CudaOptions& options) {
  if (cuda_devices() == 0) return;
  list.push_back(
      {"cuda" + suffix, [options] { return make_cuda_ops(options); }, options.compute == Compute::kBF16, false});
}

std::vector<Backend> exact_backends() {
  std::vector<Backend> result = cpu_backends(Compute::kF32);
  result.insert(result.begin(), {"reference", [] { return make_reference_ops(); }});
  add_cuda(result, "", {.compute = Compute::kF32});
  return result;
}

std::vector<Backend> bf16_backends() {
  std::vector<Backend> result = cpu_backends(Compute::kBF16);
  add_bf16_attention(result);
  add_cuda(result, "_bf16compute", {.compute = Compute::kBF16});
  return result;
}

std::vector<Backend> narrow_cache_backends() {
  std::vector<Backend> result = cpu_backends(Compute::kF32, true);
  add_bf16_attention(result);
  add_cuda(result, "_bf16cache", {.compute = Compute::kF32, .bf16_cache = true});
  return result;
}

}  // namespace

const std::vector<Backend>& backends() {
  static const std::vector<Backend> kBackends = exact_backends();
  return kBackends;
}

const std::vector<Backend>& rounding_backends() {
  static const std::vector<Backend> kBackends = bf16_backends();
  return kBackends;
}

const std::vector<Backend>& bf16_cache_backends() {
  static const std::vector<Backend> kBackends = narrow_cache_backends();
  return kBackends;
}

}  // namespace vl2::parity

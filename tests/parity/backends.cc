#include "parity/backends.h"

#include "engine/cpu/cpu_ops.h"
#include "engine/cuda/cuda_ops.h"
#include "engine/reference/reference_ops.h"

namespace vl2::parity {
namespace {

// The CPU backend once for every instruction set this machine has.
std::vector<Backend> cpu_backends(Compute compute, CacheType cache = CacheType::kF32) {
  std::vector<Backend> result;
  for (Isa isa : available_isas()) {
    CpuOptions options;
    options.isa = isa;
    options.compute = compute;
    options.cache = cache;
    const bool rounds = compute == Compute::kBF16;
    result.push_back({fmt::format("cpu_{}{}", isa_name(isa),
                                  rounds                      ? "_bf16compute"
                                  : cache == CacheType::kBF16 ? "_bf16cache"
                                  : cache == CacheType::kInt8 ? "_int8cache"
                                                              : ""),
                      [options] { return make_cpu_ops(options); }, rounds, true, cache == CacheType::kInt8});
  }
  return result;
}

// What a model in codes gets where the unit multiplies bf16.
void add_bf16_attention(std::vector<Backend>& list, CacheType cache = CacheType::kBF16) {
  for (Isa isa : available_isas()) {
    if (isa != Isa::kAvx512Bf16) continue;
    const CpuOptions options{
        .threads = 0, .compute = Compute::kF32, .cache = cache, .bf16_attention = true, .isa = isa};
    const bool codes = cache == CacheType::kInt8;
    list.push_back({fmt::format("cpu_{}_bf16attention{}", isa_name(isa), codes ? "_int8cache" : ""),
                    [options] { return make_cpu_ops(options); }, true, true, codes});
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

std::vector<Backend> all_narrow_caches() {
  std::vector<Backend> result = cpu_backends(Compute::kF32, CacheType::kBF16);
  add_bf16_attention(result);
  for (Backend& b : cpu_backends(Compute::kF32, CacheType::kInt8)) result.push_back(std::move(b));
  add_bf16_attention(result, CacheType::kInt8);
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

const std::vector<Backend>& narrow_cache_backends() {
  static const std::vector<Backend> kBackends = all_narrow_caches();
  return kBackends;
}

}  // namespace vl2::parity

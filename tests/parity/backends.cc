#include "parity/backends.h"

#include "engine/cpu/cpu_ops.h"
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

std::vector<Backend> exact_backends() {
  std::vector<Backend> result = cpu_backends(Compute::kF32);
  result.insert(result.begin(), {"reference", [] { return make_reference_ops(); }});
  return result;
}

}  // namespace

const std::vector<Backend>& backends() {
  static const std::vector<Backend> kBackends = exact_backends();
  return kBackends;
}

const std::vector<Backend>& rounding_backends() {
  static const std::vector<Backend> kBackends = cpu_backends(Compute::kBF16);
  return kBackends;
}

const std::vector<Backend>& bf16_cache_backends() {
  static const std::vector<Backend> kBackends = cpu_backends(Compute::kF32, true);
  return kBackends;
}

const Backend& backend(const std::string& name) {
  std::string known;
  for (const std::vector<Backend>* list : {&backends(), &rounding_backends(), &bf16_cache_backends()})
    for (const Backend& b : *list) {
      if (b.name == name) return b;
      known += " " + b.name;
    }
  fail(ErrorCode::kInvalidArgument, "no backend is called {}; there are:{}", name, known);
}

}  // namespace vl2::parity

#include "parity/backends.h"

#include "engine/cpu/cpu_ops.h"
#include "engine/reference/reference_ops.h"

namespace vl2::parity {
namespace {

// The reference, and the CPU backend once for every instruction set this machine has.
std::vector<Backend> list_backends() {
  std::vector<Backend> result = {{"reference", [] { return make_reference_ops(); }}};
  for (Isa isa : available_isas()) {
    CpuOptions options;
    options.isa = isa;
    options.compute = Compute::kF32;
    result.push_back({fmt::format("cpu_{}", isa_name(isa)), [options] { return make_cpu_ops(options); }});
  }
  return result;
}

}  // namespace

const std::vector<Backend>& backends() {
  static const std::vector<Backend> kBackends = list_backends();
  return kBackends;
}

const Backend& backend(const std::string& name) {
  std::string known;
  for (const Backend& b : backends()) {
    if (b.name == name) return b;
    known += " " + b.name;
  }
  fail(ErrorCode::kInvalidArgument, "no backend is called {}; there are:{}", name, known);
}

}  // namespace vl2::parity

#include "parity/backends.h"

#include "engine/reference/reference_ops.h"

namespace vl2::parity {

const std::vector<Backend>& backends() {
  static const std::vector<Backend> kBackends = {
      {"reference", [] { return make_reference_ops(); }},
  };
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

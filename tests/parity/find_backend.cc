#include "parity/backends.h"
#include "parity/host_ops.h"

namespace vl2::parity {

std::unique_ptr<Ops> Backend::make_on_host() const { return on_host(make()); }

const Backend& backend(const std::string& name) {
  std::string known;
  for (const std::vector<Backend>* list : {&backends(), &rounding_backends(), &narrow_cache_backends()})
    for (const Backend& b : *list) {
      if (b.name == name) return b;
      known += " " + b.name;
    }
  fail(ErrorCode::kInvalidArgument, "no backend is called {}; there are:{}", name, known);
}

}  // namespace vl2::parity

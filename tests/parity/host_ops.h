// A backend whose tensors lie on the host, around one whose tensors do not: every operation copies in, calls the other
// backend's, and copies out. For tests that fill and read tensors themselves.
#pragma once

#include <memory>

#include "engine/ops/ops.h"

namespace vl2::parity {

// `ops` itself where its tensors are on the host anyway.
std::unique_ptr<Ops> on_host(std::unique_ptr<Ops> ops);

}  // namespace vl2::parity

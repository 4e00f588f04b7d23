// The definition of every operation: naive loops in double over float32 activations. Slow on purpose, right by reading.
#pragma once

#include <memory>

#include "engine/ops/ops.h"

namespace vl2 {

std::unique_ptr<Ops> make_reference_ops();

}  // namespace vl2

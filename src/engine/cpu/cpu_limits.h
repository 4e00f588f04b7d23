// The machine's own limits, measured: what a benchmark's result is divided by.
#pragma once

#include <memory>

#include "engine/cpu/cpu_ops.h"
#include "engine/ops/limits.h"

namespace vl2 {

std::unique_ptr<LimitMeter> make_cpu_limit_meter(const CpuOptions& options);

}  // namespace vl2

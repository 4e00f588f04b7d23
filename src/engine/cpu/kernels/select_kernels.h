// The one place that goes from an instruction set to its kernels.
#pragma once

#include "engine/cpu/cpu_isa.h"
#include "engine/cpu/kernels/kernel_table.h"

namespace vl2::cpu {

const KernelTable& select_kernels(Isa isa);

}  // namespace vl2::cpu

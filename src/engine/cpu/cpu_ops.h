// The CPU backend: packed weights, vector kernels chosen at start-up, one thread pool.
#pragma once

#include <memory>
#include <optional>

#include "engine/cpu/cpu_isa.h"
#include "engine/ops/compute.h"
#include "engine/ops/ops.h"

namespace vl2 {

struct CpuOptions {
  int threads = 0;  // 0: every core this process may use
  Compute compute = Compute::kAuto;
  // What keys and values are rounded to when they are stored. bf16 arithmetic stores no float32; auto is float32 here.
  CacheType cache = CacheType::kF32;
  // Where the unit multiplies bf16 faster than float32, operands of the attention of pictures and over latents are
  // rounded to it; bf16 arithmetic rounds those of all attention.
  bool bf16_attention = false;
  std::optional<Isa> isa;  // empty: VL2_CPU_ISA, or the best there is
};

std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options = {});

}  // namespace vl2

// How a backend multiplies matrices, and what it keeps of keys and values.
#pragma once

namespace vl2 {

enum class Compute {
  kAuto,  // bf16 where the weights are bf16 and the processor multiplies them natively (AMX), else float32;
          // beside stored codes a backend may round operands of attention to bf16 all the same
  kF32,   // float32 arithmetic; bf16 weights are widened
  kBF16,  // activations rounded to bf16 before every product, sums in float32; keys and values cached in bf16
};

enum class CacheType {
  kAuto,  // bf16 where products round their rows anyway (bf16 arithmetic, stored codes), else float32
  kF32,
  kBF16,
  kInt8,  // codes of 8 bits and a scale for each 128 of them (CPU only)
};

}  // namespace vl2

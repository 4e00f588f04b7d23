#include "engine/cpu/kernels/select_kernels.h"

#include "core/base/error.h"

namespace vl2::cpu {

const KernelTable& select_kernels(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return scalar_kernels();
    case Isa::kAvx2:
      return avx2_kernels();
    case Isa::kAvxVnni:
      return avxvnni_kernels();
    case Isa::kAvx512:
      return avx512_kernels();
    case Isa::kAvx512Vnni:
      return avx512vnni_kernels();
    case Isa::kAvx512Bf16:
      return avx512bf16_kernels();
    case Isa::kAmx:
      return amx_kernels();
  }
  fail(ErrorCode::kInternal, "no kernels for this instruction set");
}

}  // namespace vl2::cpu

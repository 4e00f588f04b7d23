// AVX2 kernels with AVX-VNNI for stored codes: processors of 2021 and later without AVX-512. Everything else is the
// AVX2 table's.
#include <cmath>
#include <cstring>

#include "engine/cpu/kernels/kernel_table.h"

#if defined(__x86_64__)

#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avxvnni")

namespace vl2::cpu {
namespace avxvnni {
// clang-format off
#include "engine/cpu/kernels/avx2/simd.h"
#include "engine/cpu/kernels/avx2/codes.h"
#include "engine/cpu/kernels/avxvnni/dot_vnni.h"
#include "engine/cpu/kernels/generic/interleave-inl.h"
#include "engine/cpu/kernels/generic/pages-inl.h"
#include "engine/cpu/kernels/generic/math-inl.h"
#include "engine/cpu/kernels/generic/finish-inl.h"
#include "engine/cpu/kernels/generic/quant-inl.h"
#include "engine/cpu/kernels/generic/stream-inl.h"
#include "engine/cpu/kernels/avxvnni/peak_vnni.h"
// clang-format on

constexpr GemmKernel kQ8 = {quant_pack, quant_packed_bytes, kQuantRows, quant_gemm<Bytes>};
constexpr GemmKernel kQ4 = {quant_pack, quant_packed_bytes, kQuantRows, quant_gemm<Nibbles>};

}  // namespace avxvnni
}  // namespace vl2::cpu

#pragma GCC pop_options

namespace vl2::cpu {

const KernelTable& avxvnni_kernels() {
  static const KernelTable table = [] {
    KernelTable t = avx2_kernels();
    t.isa = "avxvnni";
    t.q8 = avxvnni::kQ8;
    t.q4 = avxvnni::kQ4;
    t.peak_int8 = avxvnni::peak_int8;
    return t;
  }();
  return table;
}

}  // namespace vl2::cpu

#else

namespace vl2::cpu {
const KernelTable& avxvnni_kernels() { return scalar_kernels(); }
}  // namespace vl2::cpu

#endif

// AVX-512 kernels with VNNI for stored codes. Everything else is the AVX-512 table's.
#include <cmath>
#include <cstring>

#include "engine/cpu/kernels/kernel_table.h"

#if defined(__x86_64__)

#include <immintrin.h>

// GCC 11 and 12 warn about their own _mm512_undefined_* (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,prefer-vector-width=512")

namespace vl2::cpu {
namespace avx512vnni {
// clang-format off
#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/avx512/codes.h"
#include "engine/cpu/kernels/avx512vnni/dot_vnni.h"
#include "engine/cpu/kernels/generic/interleave-inl.h"
#include "engine/cpu/kernels/generic/pages-inl.h"
#include "engine/cpu/kernels/generic/math-inl.h"
#include "engine/cpu/kernels/generic/finish-inl.h"
#include "engine/cpu/kernels/generic/quant-inl.h"
#include "engine/cpu/kernels/generic/stream-inl.h"
#include "engine/cpu/kernels/avx512vnni/peak_vnni.h"
// clang-format on

constexpr GemmKernel kQ8 = {quant_pack, quant_packed_bytes, kQuantRows, quant_gemm<Bytes>};
constexpr GemmKernel kQ4 = {quant_pack, quant_packed_bytes, kQuantRows, quant_gemm<Nibbles>};

}  // namespace avx512vnni
}  // namespace vl2::cpu

#pragma GCC pop_options

namespace vl2::cpu {

const KernelTable& avx512vnni_kernels() {
  static const KernelTable table = [] {
    KernelTable t = avx512_kernels();
    t.isa = "avx512vnni";
    t.q8 = avx512vnni::kQ8;
    t.q4 = avx512vnni::kQ4;
    t.peak_int8 = avx512vnni::peak_int8;
    return t;
  }();
  return table;
}

}  // namespace vl2::cpu

#else

namespace vl2::cpu {
const KernelTable& avx512vnni_kernels() { return scalar_kernels(); }
}  // namespace vl2::cpu

#endif

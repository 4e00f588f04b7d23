// bf16 x bf16 on AMX tiles; everything else is the AVX-512 table's.
//
// A tile of weights is 16 pairs of k by 16 columns, just as a panel stores them; a tile of activations is 16 rows by 32
// k. Four tiles of sums (2 row tiles x 2 panels) share four loads, so each load feeds two multiplications. Sums over k
// always run in steps of 32 from 0 upwards and a tile's rows are independent: a row's bits do not depend on its
// neighbours.
#include <cmath>
#include <cstring>

#include "engine/cpu/kernels/kernel_table.h"

#if defined(__x86_64__)

#include <immintrin.h>

// GCC 11 and 12 warn about their own _mm512_undefined_* (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#pragma GCC push_options
#pragma GCC target( \
    "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16,prefer-vector-width=512")

namespace vl2::cpu {
namespace amx {
// clang-format off
#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/generic/math-inl.h"
#include "engine/cpu/kernels/generic/finish-inl.h"
#include "engine/cpu/kernels/amx/tiles-inl.h"
// clang-format on

}  // namespace amx
}  // namespace vl2::cpu

#pragma GCC pop_options

namespace vl2::cpu {

const KernelTable& amx_kernels() {
  static const KernelTable table = [] {
    KernelTable t = avx512_kernels();
    t.isa = "amx";
    t.bf16 = amx::kTileKernel;
    return t;
  }();
  return table;
}

}  // namespace vl2::cpu

#else

namespace vl2::cpu {
const KernelTable& amx_kernels() { return scalar_kernels(); }
}  // namespace vl2::cpu

#endif

// Kernels for AVX-512 (F, BW, DQ, VL).
#include <cmath>
#include <cstring>

#include "engine/cpu/kernels/kernel_table.h"

#if defined(__x86_64__)

#include <immintrin.h>

// GCC 11 and 12 warn about their own _mm512_undefined_* (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")

namespace vl2::cpu {
namespace avx512 {
// clang-format off
#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/avx512/codes.h"
#include "engine/cpu/kernels/avx512/dot_words.h"
#include "engine/cpu/kernels/generic/interleave-inl.h"
#include "engine/cpu/kernels/generic/pages-inl.h"
#include "engine/cpu/kernels/generic/math-inl.h"
#include "engine/cpu/kernels/generic/finish-inl.h"
#include "engine/cpu/kernels/generic/gemm-inl.h"
#include "engine/cpu/kernels/generic/quant-inl.h"
#include "engine/cpu/kernels/generic/words-inl.h"
#include "engine/cpu/kernels/generic/stream-inl.h"
#include "engine/cpu/kernels/generic/rows-inl.h"
#include "engine/cpu/kernels/generic/cache_codes-inl.h"
#include "engine/cpu/kernels/generic/panels-inl.h"
#include "engine/cpu/kernels/generic/cache-inl.h"
#include "engine/cpu/kernels/generic/attend-inl.h"
#include "engine/cpu/kernels/generic/peak-inl.h"
#include "engine/cpu/kernels/generic/peak_words-inl.h"
#include "engine/cpu/kernels/generic/table-inl.h"
// clang-format on
}  // namespace avx512
}  // namespace vl2::cpu

#pragma GCC pop_options

namespace vl2::cpu {
const KernelTable& avx512_kernels() { return avx512::kTable; }
}  // namespace vl2::cpu

#else

namespace vl2::cpu {
const KernelTable& avx512_kernels() { return scalar_kernels(); }
}  // namespace vl2::cpu

#endif

// Kernels for AVX2 and FMA.
#include <cmath>
#include <cstring>

#include "engine/cpu/kernels/kernel_table.h"

#if defined(__x86_64__)

#include <immintrin.h>

// Everything below is compiled for AVX2, and nothing above: see docs/decisions on target regions.
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace vl2::cpu {
namespace avx2 {
// clang-format off
#include "engine/cpu/kernels/avx2/simd.h"
#include "engine/cpu/kernels/avx2/codes.h"
#include "engine/cpu/kernels/avx2/dot_words.h"
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
}  // namespace avx2
}  // namespace vl2::cpu

#pragma GCC pop_options

namespace vl2::cpu {
const KernelTable& avx2_kernels() { return avx2::kTable; }
}  // namespace vl2::cpu

#else

namespace vl2::cpu {
const KernelTable& avx2_kernels() { return scalar_kernels(); }
}  // namespace vl2::cpu

#endif

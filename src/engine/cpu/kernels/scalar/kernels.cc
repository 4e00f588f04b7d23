// Baseline kernels: plain C++, any processor.
#include <bit>
#include <cmath>
#include <cstring>

#include "engine/cpu/kernels/kernel_table.h"

namespace vl2::cpu {
namespace scalar {
// clang-format off
#include "engine/cpu/kernels/scalar/simd.h"
#include "engine/cpu/kernels/scalar/codes.h"
#include "engine/cpu/kernels/generic/interleave-inl.h"
#include "engine/cpu/kernels/generic/pages-inl.h"
#include "engine/cpu/kernels/generic/math-inl.h"
#include "engine/cpu/kernels/generic/finish-inl.h"
#include "engine/cpu/kernels/generic/gemm-inl.h"
#include "engine/cpu/kernels/generic/quant-inl.h"
#include "engine/cpu/kernels/generic/stream-inl.h"
#include "engine/cpu/kernels/generic/rows-inl.h"
#include "engine/cpu/kernels/generic/cache_codes-inl.h"
#include "engine/cpu/kernels/generic/panels-inl.h"
#include "engine/cpu/kernels/generic/cache-inl.h"
#include "engine/cpu/kernels/generic/attend-inl.h"
#include "engine/cpu/kernels/generic/peak-inl.h"
#include "engine/cpu/kernels/generic/peak_codes-inl.h"
#include "engine/cpu/kernels/generic/table-inl.h"
// clang-format on
}  // namespace scalar

const KernelTable& scalar_kernels() { return scalar::kTable; }

}  // namespace vl2::cpu

#include "train/model/row_kernels.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#define VL2_ALWAYS_INLINE inline __attribute__((always_inline))

namespace vl2::train {
namespace {

using Half = RowKernels::Half;

namespace plain {
#include "train/model/row_kernels-inl.h"
}  // namespace plain

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#include "train/model/row_kernels-inl.h"
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
namespace avx512 {
#include "train/model/row_kernels-inl.h"
}  // namespace avx512
#pragma GCC pop_options

constexpr std::array kAll = {&plain::kKernels, &avx2::kKernels, &avx512::kKernels};

int supported() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 1;
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
             ? 3
             : 2;
}
#else
constexpr std::array kAll = {&plain::kKernels};
int supported() { return 1; }
#endif

}  // namespace

int num_row_kernels() { return supported(); }
const RowKernels& row_kernels(int which) { return *kAll[static_cast<size_t>(which)]; }

const RowKernels& row_kernels() {
  static const RowKernels& kernels = row_kernels(num_row_kernels() - 1);
  return kernels;
}

}  // namespace vl2::train

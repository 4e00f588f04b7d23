#include "train/model/attention_kernels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "train/model/row_kernels.h"

#define VL2_ALWAYS_INLINE inline __attribute__((always_inline))

namespace vl2::train {
namespace {

using Half = AttentionKernels::Half;

namespace plain {
#include "train/model/attention_kernels-inl.h"
}  // namespace plain

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#include "train/model/attention_kernels-inl.h"
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
namespace avx512 {
#include "train/model/attention_kernels-inl.h"
}  // namespace avx512
#pragma GCC pop_options

constexpr std::array kAll = {&plain::kAttention, &avx2::kAttention, &avx512::kAttention};
#else
constexpr std::array kAll = {&plain::kAttention};
#endif

}  // namespace

const AttentionKernels& attention_kernels(int which) { return *kAll[static_cast<size_t>(which)]; }

const AttentionKernels& attention_kernels() {
  static const AttentionKernels& kernels = attention_kernels(num_row_kernels() - 1);
  return kernels;
}

}  // namespace vl2::train

// Keys and values side by side for the attention kernels: [group][key][padded] from wherever they lie.
//
// A prompt reads every key many times; packed once, rows are aligned, padded with zeros and in the type of the
// products.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"
#include "engine/cuda/kernels/sequences.h"

namespace vl2::cuda {

// `cols` columns of each key and group: rows of floats, or columns of a paged cache from `column` on.
struct PackSource {
  const float* rows = nullptr;  // key k, group g at rows + k * row_stride + g * group_stride; nullptr: the cache
  int64_t row_stride = 0, group_stride = 0;
  int32_t cols = 0;
  int32_t column = 0;  // of the cache; group g's begin at column + g * group_stride
};

struct Pack {
  void* out = nullptr;  // [item][group][key][padded], 16-byte aligned
  bool bf16 = false;    // of out; else float32
  int32_t items = 1;    // runs of `keys` rows; 1 with a cache
  int32_t groups = 0;
  int32_t keys = 0;
  int32_t padded = 0;        // >= first.cols + second.cols; zeros beyond them
  PackSource first, second;  // side by side; second may be empty (cols 0)
  CacheView cache;
  const int32_t* blocks = nullptr;  // the sequence's
};

void pack(const Pack& args, Stream stream);

}  // namespace vl2::cuda

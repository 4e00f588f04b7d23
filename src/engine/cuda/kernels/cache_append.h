// New tokens into the paged cache.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"
#include "engine/cuda/kernels/sequences.h"

namespace vl2::cuda {

// Row r of the batch goes to its sequence's block: first.heads * first.cols values, then second's; their sum is the
// cache's width. bf16 caches round to nearest even.
struct CacheAppend {
  RowsView first, second;
  CacheView cache;
  SequencesView sequences;
};

void append_to_cache(const CacheAppend& args, Stream stream);

}  // namespace vl2::cuda

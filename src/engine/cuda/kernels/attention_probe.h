// The softmax weights themselves, for traces: slow, and only there.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"

namespace vl2::cuda {

// Row i of q reads keys 0 .. past + i. k: [group][keys][padded], packed as for flash_attention.
struct AttentionProbe {
  RowsView out;  // [rows, heads, longest]; zeros beyond a row's own keys
  RowsView q;    // [rows, heads, size]
  const void* k = nullptr;
  bool bf16 = false;  // of k
  int32_t groups = 1, keys = 0, padded = 0, past = 0;
  float scale = 1.0f;
};
void attention_probe(const AttentionProbe& args, Stream stream);

}  // namespace vl2::cuda

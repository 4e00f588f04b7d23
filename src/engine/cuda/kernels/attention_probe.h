// The softmax weights of attention, for traces: slow, nothing but keys packed in float32.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"

namespace vl2::cuda {

// Row i of q sees keys 0 .. past + i. probe [rows, heads, columns] receives the weights, zeros beyond a row's own keys.
struct AttentionProbe {
  RowsView probe, q;         // [rows, heads, columns], [rows, heads, size]
  const float* k = nullptr;  // [group][key][padded]
  int32_t groups = 1, keys = 0, padded = 0;
  int32_t past = 0;
  float scale = 1.0f;
};
void probe_attention(const AttentionProbe& args, Stream stream);

}  // namespace vl2::cuda

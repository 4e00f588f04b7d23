// Attention of the vision encoder: every row of an item reads all rows of the item.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"

namespace vl2::cuda {

// bf16: operands of products rounded to bfloat16 (head sizes of up to 128 have kernels; larger ones run in float32).
struct FullAttention {
  RowsView out;        // [items * tokens, heads, size]
  RowsView qkv;        // [items * tokens, 1, 3 * heads * size] as [q | k | v]
  int32_t tokens = 0;  // of an item
  bool bf16 = false;
  void* scratch = nullptr;  // full_attention_bytes(), 256-byte aligned
};
int64_t full_attention_bytes(int64_t rows, int64_t heads, int64_t size, bool bf16);
void full_attention(const FullAttention& args, Stream stream);

}  // namespace vl2::cuda

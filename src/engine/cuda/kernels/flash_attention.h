// Attention of many rows over packed keys (attention_pack.h): one pass, softmax on the way.
//
// bf16: products of bfloat16 (queries and softmax weights are rounded where they enter one) on tensor cores, sums,
// scores and softmax in float32; keys of up to 192 and values of up to 128. f32: float32 throughout, any size that fits
// shared memory.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"
#include "engine/cuda/kernels/sequences.h"

namespace vl2::cuda {

// Where keys (or values) lie, in elements: key n of group g of item i begins at i * item + g * group + n * key.
struct KeyLayout {
  int64_t item = 0, group = 0, key = 0;
  int32_t cols = 0;  // of a key; a multiple of 8 in bfloat16, and so are the strides
};

// Of each item, `rows` queries read `keys` keys; with causal, query i reads keys 0 .. past + i. Query head h reads key
// group h / (heads / groups). q and out: item's rows follow one another (item * rows + i).
struct FlashAttention {
  RowsView out;             // [items * rows, heads, v_size]
  RowsView q;               // [items * rows, heads, size]
  const void* k = nullptr;  // packed, [item][group][key][padded_size], unless k_layout says otherwise
  const void* v = nullptr;  // packed, [item][group][key][padded_v]
  bool bf16 = false;        // of k and v
  int32_t items = 1, groups = 1;
  int32_t rows = 0, keys = 0;
  int32_t padded_size = 0, padded_v = 0;  // flash_sizes() of q.cols and out.cols
  bool causal = false;
  int32_t past = 0;
  float scale = 1.0f;  // above zero
  // bf16 alone. Keys and values as some product left them (layouts with key == 0: packed), queries and outputs in
  // bfloat16 (strides of q and out are then elements of these, and their data is not used).
  KeyLayout k_layout = {}, v_layout = {};
  const Bf16Bits* q_bf16 = nullptr;
  Bf16Bits* out_bf16 = nullptr;
};

struct FlashSizes {
  bool bf16 = false;        // bfloat16 was asked for and these sizes have a kernel
  int32_t size = 0, v = 0;  // columns of a packed key and value
  // Bytes of packed keys and values, of one key and group.
  int64_t key_bytes() const { return static_cast<int64_t>(size + v) * (bf16 ? 2 : 4); }
};
FlashSizes flash_sizes(int64_t size, int64_t v, bool bf16);

void flash_attention(const FlashAttention& args, Stream stream);
// What it does in bfloat16 on any device; Hopper has another kernel for many rows (flash_warpgroups.h).
void flash_warps(const FlashAttention& args, Stream stream);

inline KeyLayout packed_layout(const FlashAttention& args, int32_t padded) {
  const int64_t group = static_cast<int64_t>(args.keys) * padded;
  return {group * args.groups, group, padded, padded};
}

}  // namespace vl2::cuda

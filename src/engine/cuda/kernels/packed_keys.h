// Where packed keys and values lie in the scratch of an attention; host code.
#pragma once

#include "engine/cuda/kernels/attention_pack.h"
#include "engine/cuda/kernels/flash_attention.h"

namespace vl2::cuda {

struct PackedKeys {
  void* k = nullptr;
  void* v = nullptr;
};

inline int64_t packed_part(int64_t rows, int32_t columns, bool bf16) {
  return (rows * columns * (bf16 ? 2 : 4) + 255) / 256 * 256;
}
// rows: keys times groups, of all items.
inline int64_t packed_bytes(const FlashSizes& sizes, int64_t rows) {
  return packed_part(rows, sizes.size, sizes.bf16) + packed_part(rows, sizes.v, sizes.bf16);
}
inline PackedKeys packed_keys(void* scratch, const FlashSizes& sizes, int64_t rows) {
  return {scratch, static_cast<char*>(scratch) + packed_part(rows, sizes.size, sizes.bf16)};
}

}  // namespace vl2::cuda

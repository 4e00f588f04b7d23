#include "engine/cpu/cpu_cache.h"

#include <algorithm>

namespace vl2::cpu {

CpuCache::CpuCache(bool bf16, int64_t layers, int64_t blocks, int64_t block_tokens, int64_t width)
    : KvCache(layers, blocks, block_tokens, width), bf16_(bf16), data_(map_lazily(num_bytes())) {}

int64_t CpuCache::num_bytes() const {
  return num_layers() * num_blocks() * block_tokens() * width() *
         static_cast<int64_t>(bf16_ ? sizeof(BF16) : sizeof(float));
}

void CpuCache::read(int64_t layer, std::span<const int32_t> blocks, int64_t token, float* out) const {
  const int32_t number = blocks[static_cast<size_t>(token / block_tokens())];
  const int64_t offset = token % block_tokens() * width();
  if (bf16_) {
    const BF16* row = block<BF16>(layer, number) + offset;
    std::transform(row, row + width(), out, [](BF16 x) { return to_float(x); });
  } else {
    std::copy_n(block<float>(layer, number) + offset, width(), out);
  }
}

void CpuCache::write(int64_t layer, std::span<const int32_t> blocks, int64_t token, int64_t column, const float* values,
                     int64_t count) {
  const int32_t number = blocks[static_cast<size_t>(token / block_tokens())];
  const int64_t offset = token % block_tokens() * width() + column;
  if (bf16_) {
    std::transform(values, values + count, block<BF16>(layer, number) + offset, [](float x) { return to_bf16(x); });
  } else {
    std::copy_n(values, count, block<float>(layer, number) + offset);
  }
}

void CpuCache::gather(int64_t layer, std::span<const int32_t> blocks, int64_t tokens, int64_t column, int64_t count,
                      float* out) const {
  for (int64_t t = 0; t < tokens; ++t, out += count) {
    const int32_t number = blocks[static_cast<size_t>(t / block_tokens())];
    const int64_t offset = t % block_tokens() * width() + column;
    if (bf16_) {
      const BF16* row = block<BF16>(layer, number) + offset;
      std::transform(row, row + count, out, [](BF16 x) { return to_float(x); });
    } else {
      std::copy_n(block<float>(layer, number) + offset, count, out);
    }
  }
}

}  // namespace vl2::cpu

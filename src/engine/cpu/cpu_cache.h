// Keys and values (or latents) in memory: [layer][block][token][width], float32 or bf16.
#pragma once

#include <memory>

#include "engine/cpu/packed_weights.h"
#include "engine/ops/weight.h"

namespace vl2::cpu {

class CpuCache : public KvCache {
 public:
  CpuCache(bool bf16, int64_t layers, int64_t blocks, int64_t block_tokens, int64_t width);
  int64_t num_bytes() const override;
  void read(int64_t layer, std::span<const int32_t> blocks, int64_t token, float* out) const override;

  bool bf16() const { return bf16_; }
  // First value of the block that holds token (index * block_tokens).
  template <typename T>
  T* block(int64_t layer, int32_t number) const {
    return reinterpret_cast<T*>(data_.get()) + (layer * num_blocks() + number) * block_tokens() * width();
  }
  // Stores `count` values of one token from column `column` on.
  void write(int64_t layer, std::span<const int32_t> blocks, int64_t token, int64_t column, const float* values,
             int64_t count);
  // Values [column, column + count) of tokens [0, tokens) as rows of floats.
  void gather(int64_t layer, std::span<const int32_t> blocks, int64_t tokens, int64_t column, int64_t count,
              float* out) const;

 private:
  bool bf16_;
  std::shared_ptr<std::byte> data_;  // mapped lazily: blocks nobody wrote take no memory
};

}  // namespace vl2::cpu

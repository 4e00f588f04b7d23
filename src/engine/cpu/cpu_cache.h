// Keys and values (or latents) in memory, float32 or bf16: [layer][block][segment][token][values of a segment].
//
// A segment is what one head reads: so its rows of a block lie side by side. Without set_segment a row is one segment.
#pragma once

#include <memory>

#include "engine/cpu/packed_weights.h"
#include "engine/ops/weight.h"

namespace vl2::cpu {

class CpuCache : public KvCache {
 public:
  CpuCache(const KernelTable& kernels, bool bf16, int64_t layers, int64_t blocks, int64_t block_tokens, int64_t width);
  int64_t num_bytes() const override;
  void read(int64_t layer, std::span<const int32_t> blocks, int64_t token, float* out) const override;

  // Values of a segment, a divisor of the width; the same for as long as the cache lives.
  void set_segment(int64_t values);

  bool bf16() const { return bf16_; }
  int64_t segment() const { return segment_; }
  // First value of a block; segment s begins s * segment_values() further on.
  template <typename T>
  T* block(int64_t layer, int32_t number) const {
    return reinterpret_cast<T*>(data_.get()) + (layer * num_blocks() + number) * block_tokens() * width();
  }
  int64_t segment_values() const { return block_tokens() * segment_; }
  // Stores `count` values of one token from column `column` on; they must not leave a segment.
  void write(int64_t layer, std::span<const int32_t> blocks, int64_t token, int64_t column, const float* values,
             int64_t count);
  // Values [column, column + count), inside a segment, of tokens [begin, end) as rows of floats.
  void gather(int64_t layer, std::span<const int32_t> blocks, int64_t begin, int64_t end, int64_t column, int64_t count,
              float* out, int64_t out_stride) const;

 private:
  // Place of a value inside a block.
  int64_t place(int64_t token, int64_t column) const {
    return column / segment_ * segment_values() + token % block_tokens() * segment_ + column % segment_;
  }

  const KernelTable& kernels_;
  bool bf16_;
  int64_t segment_;
  bool laid_out_ = false;
  std::shared_ptr<std::byte> data_;  // mapped lazily: blocks nobody wrote take no memory
};

}  // namespace vl2::cpu

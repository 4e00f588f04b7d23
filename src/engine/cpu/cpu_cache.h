// Keys and values (or latents) in memory, float32 or bf16: [layer][plane][block][segment][token][values of a segment].
//
// A segment is what one head reads: so its rows of a block lie side by side. A plane holds what is read in one go: all
// keys, then all values. Without lay_out a row is one segment of one plane.
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

  // Values of a segment, and planes the segments of a row are dealt to; the same for as long as the cache lives.
  void lay_out(int64_t segment, int64_t planes);

  bool bf16() const { return bf16_; }
  // Where a segment's rows of a block begin: [token][values].
  template <typename T>
  T* rows(int64_t layer, int32_t block, int64_t segment) const {
    return reinterpret_cast<T*>(data_.get()) + place(layer, block, segment);
  }
  // Values from one segment's rows to those of the next in its plane.
  int64_t segment_values() const { return block_tokens() * segment_; }
  // Fetches the lines of a token that will be written: each segment's lie in a page of their own, and waits for all of
  // them together are shorter than one after the other.
  void fetch(int64_t layer, std::span<const int32_t> blocks, int64_t token) const;
  // Stores `count` values of one token from column `column` on; they must not leave a segment.
  void write(int64_t layer, std::span<const int32_t> blocks, int64_t token, int64_t column, const float* values,
             int64_t count);
  // Values [column, column + count), inside a segment, of tokens [begin, end) as rows of floats.
  void gather(int64_t layer, std::span<const int32_t> blocks, int64_t begin, int64_t end, int64_t column, int64_t count,
              float* out, int64_t out_stride) const;

 private:
  int64_t place(int64_t layer, int64_t block, int64_t segment) const {
    const int64_t in_plane = width() / segment_ / planes_, plane = segment / in_plane;
    return (((layer * planes_ + plane) * num_blocks() + block) * in_plane + segment % in_plane) * segment_values();
  }
  // Of one value.
  template <typename T>
  T* at(int64_t layer, std::span<const int32_t> blocks, int64_t token, int64_t column) const {
    return rows<T>(layer, blocks[static_cast<size_t>(token / block_tokens())], column / segment_) +
           token % block_tokens() * segment_ + column % segment_;
  }

  const KernelTable& kernels_;
  bool bf16_;
  int64_t segment_, planes_ = 1;
  bool laid_out_ = false;
  std::shared_ptr<std::byte> data_;  // mapped lazily: blocks nobody wrote take no memory
};

}  // namespace vl2::cpu

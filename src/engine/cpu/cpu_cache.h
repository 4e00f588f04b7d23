// Keys and values (or latents) in memory: [layer][plane][block][segment][token][values of a segment], in float32, bf16
// or codes of 8 bits. Behind the codes of a segment's rows stand their scales, [group of kCacheGroup values][token] in
// bf16.
//
// A segment is what one head reads: so its rows of a block lie side by side. A plane holds what is read in one go: all
// keys, then all values.
#pragma once

#include <memory>

#include "engine/cpu/packed_weights.h"
#include "engine/ops/compute.h"
#include "engine/ops/weight.h"

namespace vl2::cpu {

class CpuCache : public KvCache {
 public:
  // stored: not kAuto.
  CpuCache(const KernelTable& kernels, CacheType stored, int64_t layers, int64_t blocks, int64_t block_tokens,
           int64_t width);
  int64_t num_bytes() const override;
  void read(int64_t layer, std::span<const int32_t> blocks, int64_t token, float* out) const override;

  // Values of a segment, and planes the segments of a row are dealt to; the same for as long as the cache lives. Until
  // it was called a row is one segment of one plane.
  void lay_out(int64_t segment, int64_t planes);

  CacheType stored() const { return stored_; }
  // Where a segment's rows of a block begin: [token][values].
  template <typename T>
  T* rows(int64_t layer, int32_t block, int64_t segment) const {
    return reinterpret_cast<T*>(data_.get() + place(layer, block, segment));
  }
  // Values from one segment's rows to those of the next in its plane.
  int64_t segment_stride() const { return segment_bytes() / value_bytes(); }
  // Of a segment's rows in codes: [group][token].
  const BF16* scales(const int8_t* rows) const {
    return reinterpret_cast<const BF16*>(rows + round_up(block_tokens() * segment_, 2));
  }
  // Fetches the lines of a token that will be written: each segment's lie in a page of their own, and waits for all of
  // them together are shorter than one after the other.
  void fetch(int64_t layer, std::span<const int32_t> blocks, int64_t token) const;
  // Stores the values of one segment of a token.
  void write(int64_t layer, std::span<const int32_t> blocks, int64_t token, int64_t segment, const float* values);
  // Values [column, column + count), inside a segment, of tokens [begin, end) as rows of floats.
  void gather(int64_t layer, std::span<const int32_t> blocks, int64_t begin, int64_t end, int64_t column, int64_t count,
              float* out, int64_t out_stride) const;
  // Whole rows of a cache of one segment in codes, as rows of bf16; where kernels.codes_to_bf16_row is.
  void gather_bf16(int64_t layer, std::span<const int32_t> blocks, int64_t begin, int64_t end, BF16* out) const;

 private:
  int64_t value_bytes() const;
  int64_t groups() const { return (segment_ + kCacheGroup - 1) / kCacheGroup; }
  int64_t segment_bytes() const;  // of its rows of a block
  int64_t place(int64_t layer, int64_t block, int64_t segment) const {
    const int64_t in_plane = width() / segment_ / planes_, plane = segment / in_plane;
    return (((layer * planes_ + plane) * num_blocks() + block) * in_plane + segment % in_plane) * segment_bytes();
  }
  // Of one token's segment.
  template <typename T>
  T* at(int64_t layer, std::span<const int32_t> blocks, int64_t token, int64_t segment) const {
    return rows<T>(layer, blocks[static_cast<size_t>(token / block_tokens())], segment) +
           token % block_tokens() * segment_;
  }
  BF16* scales(int64_t layer, std::span<const int32_t> blocks, int64_t token, int64_t segment) const {
    const auto* codes = rows<int8_t>(layer, blocks[static_cast<size_t>(token / block_tokens())], segment);
    return const_cast<BF16*>(scales(codes)) + token % block_tokens();
  }

  const KernelTable& kernels_;
  CacheType stored_;
  int64_t segment_, planes_ = 1;
  bool laid_out_ = false;
  std::shared_ptr<std::byte> data_;  // mapped lazily: blocks nobody wrote take no memory
};

}  // namespace vl2::cpu

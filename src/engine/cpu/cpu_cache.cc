#include "engine/cpu/cpu_cache.h"

#include <algorithm>

namespace vl2::cpu {

// How far ahead of a gathered row the cache is fetched.
constexpr int64_t kBytesAhead = 4096;

CpuCache::CpuCache(const KernelTable& kernels, bool bf16, int64_t layers, int64_t blocks, int64_t block_tokens,
                   int64_t width)
    : KvCache(layers, blocks, block_tokens, width),
      kernels_(kernels),
      bf16_(bf16),
      segment_(std::max<int64_t>(width, 1)),
      data_(map_lazily(num_bytes())) {}

int64_t CpuCache::num_bytes() const {
  return num_layers() * num_blocks() * block_tokens() * width() *
         static_cast<int64_t>(bf16_ ? sizeof(BF16) : sizeof(float));
}

void CpuCache::lay_out(int64_t segment, int64_t planes) {
  VL2_CHECK(segment >= 1 && planes >= 1 && width() % (segment * planes) == 0,
            "cache rows of {} values in segments of {} and {} planes", width(), segment, planes);
  VL2_CHECK(!laid_out_ || (segment_ == segment && planes_ == planes),
            "a cache in segments of {} and {} planes was taken for one of {} and {}", segment_, planes_, segment,
            planes);
  segment_ = segment;
  planes_ = planes;
  laid_out_ = true;
}

void CpuCache::read(int64_t layer, std::span<const int32_t> blocks, int64_t token, float* out) const {
  for (int64_t column = 0; column < width(); column += segment_)
    gather(layer, blocks, token, token + 1, column, segment_, out + column, segment_);
}

void CpuCache::fetch(int64_t layer, std::span<const int32_t> blocks, int64_t token) const {
  const auto size = static_cast<int64_t>(bf16_ ? sizeof(BF16) : sizeof(float));
  for (int64_t column = 0; column < width(); column += segment_) {
    const std::byte* row = bf16_ ? reinterpret_cast<const std::byte*>(at<BF16>(layer, blocks, token, column))
                                 : reinterpret_cast<const std::byte*>(at<float>(layer, blocks, token, column));
    for (int64_t i = 0; i < segment_ * size; i += 64) __builtin_prefetch(row + i, 1);
  }
}

void CpuCache::write(int64_t layer, std::span<const int32_t> blocks, int64_t token, int64_t column, const float* values,
                     int64_t count) {
  if (bf16_) {
    kernels_.to_bf16_row(at<BF16>(layer, blocks, token, column), values, count);
  } else {
    std::copy_n(values, count, at<float>(layer, blocks, token, column));
  }
}

void CpuCache::gather(int64_t layer, std::span<const int32_t> blocks, int64_t begin, int64_t end, int64_t column,
                      int64_t count, float* out, int64_t out_stride) const {
  for (int64_t t = begin; t < end; ++t, out += out_stride) {
    if (bf16_) {
      const BF16* row = at<BF16>(layer, blocks, t, column);
      // A row is too short for the processor to see what comes next.
      const auto* bytes = reinterpret_cast<const char*>(row);
      const auto into = static_cast<int64_t>(reinterpret_cast<uintptr_t>(bytes) % kPageBytes);
      if (into == 0 || into + 2 * count > kPageBytes) __builtin_prefetch(bytes + kPagesAhead, 0, 2);
      for (int64_t i = 0; i < 2 * count; i += 64) __builtin_prefetch(bytes + kBytesAhead + i);
      kernels_.to_float_row(out, row, count);
    } else {
      std::copy_n(at<float>(layer, blocks, t, column), count, out);
    }
  }
}

}  // namespace vl2::cpu

#include "engine/cpu/cpu_cache.h"

#include <algorithm>

namespace vl2::cpu {
namespace {

// How far ahead of a gathered row the cache is fetched.
constexpr int64_t kBytesAhead = 4096;

// A row is too short for the processor to see what comes next.
void fetch_ahead(const void* row, int64_t bytes) {
  const auto* at = static_cast<const char*>(row);
  const auto into = static_cast<int64_t>(reinterpret_cast<uintptr_t>(at) % kPageBytes);
  if (into == 0 || into + bytes > kPageBytes) __builtin_prefetch(at + kPagesAhead, 0, 2);
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + kBytesAhead + i);
}

}  // namespace

CpuCache::CpuCache(const KernelTable& kernels, CacheType stored, int64_t layers, int64_t blocks, int64_t block_tokens,
                   int64_t width)
    : KvCache(layers, blocks, block_tokens, width),
      kernels_(kernels),
      stored_(stored),
      segment_(std::max<int64_t>(width, 1)),
      data_(map_lazily(num_bytes())) {}

int64_t CpuCache::value_bytes() const {
  return static_cast<int64_t>(stored_ == CacheType::kInt8   ? sizeof(int8_t)
                              : stored_ == CacheType::kBF16 ? sizeof(BF16)
                                                            : sizeof(float));
}

int64_t CpuCache::segment_bytes() const {
  const int64_t values = block_tokens() * segment_ * value_bytes();
  if (stored_ != CacheType::kInt8) return values;
  return round_up(round_up(values, 2) + block_tokens() * groups() * static_cast<int64_t>(sizeof(BF16)), 64);
}

int64_t CpuCache::num_bytes() const { return num_layers() * num_blocks() * (width() / segment_) * segment_bytes(); }

void CpuCache::lay_out(int64_t segment, int64_t planes) {
  VL2_CHECK(segment >= 1 && planes >= 1 && width() % (segment * planes) == 0,
            "cache rows of {} values in segments of {} and {} planes", width(), segment, planes);
  VL2_CHECK(!laid_out_ || (segment_ == segment && planes_ == planes),
            "a cache in segments of {} and {} planes was taken for one of {} and {}", segment_, planes_, segment,
            planes);
  if (laid_out_) return;
  segment_ = segment;
  planes_ = planes;
  laid_out_ = true;
  // Nobody has written yet. How many scales there are depends on the segments.
  if (stored_ == CacheType::kInt8) data_ = map_lazily(num_bytes());
}

void CpuCache::read(int64_t layer, std::span<const int32_t> blocks, int64_t token, float* out) const {
  for (int64_t column = 0; column < width(); column += segment_)
    gather(layer, blocks, token, token + 1, column, segment_, out + column, segment_);
}

void CpuCache::fetch(int64_t layer, std::span<const int32_t> blocks, int64_t token) const {
  const int64_t bytes = segment_ * value_bytes(), from = token % block_tokens() * bytes;
  for (int64_t segment = 0; segment < width() / segment_; ++segment) {
    const std::byte* row = rows<std::byte>(layer, blocks[static_cast<size_t>(token / block_tokens())], segment) + from;
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i, 1);
    if (stored_ == CacheType::kInt8) __builtin_prefetch(scales(layer, blocks, token, segment), 1);
  }
}

void CpuCache::write(int64_t layer, std::span<const int32_t> blocks, int64_t token, int64_t segment,
                     const float* values) {
  if (stored_ == CacheType::kInt8) {
    kernels_.to_codes_row(at<int8_t>(layer, blocks, token, segment), scales(layer, blocks, token, segment),
                          block_tokens(), values, segment_);
  } else if (stored_ == CacheType::kBF16) {
    kernels_.to_bf16_row(at<BF16>(layer, blocks, token, segment), values, segment_);
  } else {
    std::copy_n(values, segment_, at<float>(layer, blocks, token, segment));
  }
}

void CpuCache::gather(int64_t layer, std::span<const int32_t> blocks, int64_t begin, int64_t end, int64_t column,
                      int64_t count, float* out, int64_t out_stride) const {
  const int64_t segment = column / segment_, first = column % segment_;
  for (int64_t t = begin; t < end; ++t, out += out_stride) {
    if (stored_ == CacheType::kInt8) {
      const int8_t* codes = at<int8_t>(layer, blocks, t, segment);
      const BF16* scale = scales(layer, blocks, t, segment);
      fetch_ahead(codes + first, count);
      // To where a group begins.
      const int64_t head = std::min(round_up(first, kCacheGroup) - first, count);
      for (int64_t i = 0; i < head; ++i)
        out[i] = static_cast<float>(codes[first + i]) * to_float(scale[(first + i) / kCacheGroup * block_tokens()]);
      kernels_.from_codes_row(out + head, codes + first + head, scale + (first + head) / kCacheGroup * block_tokens(),
                              block_tokens(), count - head);
    } else if (stored_ == CacheType::kBF16) {
      const BF16* row = at<BF16>(layer, blocks, t, segment) + first;
      fetch_ahead(row, count * value_bytes());
      kernels_.to_float_row(out, row, count);
    } else {
      std::copy_n(at<float>(layer, blocks, t, segment) + first, count, out);
    }
  }
}

void CpuCache::gather_bf16(int64_t layer, std::span<const int32_t> blocks, int64_t begin, int64_t end,
                           BF16* out) const {
  for (int64_t t = begin; t < end; ++t, out += segment_) {
    const int8_t* codes = at<int8_t>(layer, blocks, t, 0);
    fetch_ahead(codes, segment_);
    kernels_.codes_to_bf16_row(out, codes, scales(layer, blocks, t, 0), block_tokens(), segment_);
  }
}

}  // namespace vl2::cpu

#include "engine/ops/tensor.h"

#include <algorithm>

namespace vl2 {
namespace {
constexpr size_t kAlignment = 64;
constexpr size_t kSmallestChunk = size_t{1} << 20;
}  // namespace

std::byte* Workspace::bytes(size_t count) {
  count = (std::max<size_t>(count, 1) + kAlignment - 1) / kAlignment * kAlignment;
  while (chunk_ < chunks_.size() && used_ + count > chunks_[chunk_].size) {
    // A chunk nobody uses that is too small is replaced, so that the arena settles at a few large chunks.
    if (used_ == 0) {
      chunks_.resize(chunk_);
      break;
    }
    ++chunk_;
    used_ = 0;
  }
  if (chunk_ == chunks_.size()) {
    const size_t last = chunks_.empty() ? 0 : chunks_.back().size;
    const size_t size = (std::max({count, kSmallestChunk, last + last / 2}) + kAlignment - 1) / kAlignment * kAlignment;
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(kAlignment, size));
    if (memory == nullptr)
      fail(ErrorCode::kOutOfMemory, "no memory for {} MiB of activations; use a smaller chunk or picture", size >> 20);
    chunks_.push_back({std::unique_ptr<std::byte, Free>(memory), size});
    used_ = 0;
  }
  std::byte* result = chunks_[chunk_].memory.get() + used_;
  used_ += count;
  return result;
}

size_t Workspace::capacity() const {
  size_t total = 0;
  for (const Chunk& chunk : chunks_) total += chunk.size;
  return total;
}

}  // namespace vl2

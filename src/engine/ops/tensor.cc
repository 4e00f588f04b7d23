#include "engine/ops/tensor.h"

#include <sys/mman.h>

#include <algorithm>

namespace vl2 {
namespace {
constexpr size_t kAlignment = 64;
constexpr size_t kSmallestChunk = size_t{1} << 20;
constexpr size_t kHugePage = size_t{2} << 20;

size_t round_up(size_t count, size_t to) { return (count + to - 1) / to * to; }
}  // namespace

std::byte* Workspace::bytes(size_t count) {
  count = round_up(std::max<size_t>(count, 1), kAlignment);
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
    const size_t wanted = std::max({count, kSmallestChunk, last + last / 2});
    const size_t alignment = wanted >= kHugePage ? kHugePage : kAlignment, size = round_up(wanted, alignment);
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(alignment, size));
    if (memory == nullptr)
      fail(ErrorCode::kOutOfMemory, "no memory for {} MiB of activations; use a smaller chunk or picture", size >> 20);
    // A product writes a few columns of many rows, each in a page of its own when pages are small.
    if (alignment == kHugePage) ::madvise(memory, size, MADV_HUGEPAGE);
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

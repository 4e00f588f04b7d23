#include "engine/ops/tensor.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

namespace vl2 {
namespace {
constexpr size_t kAlignment = 64;
constexpr size_t kSmallestChunk = size_t{1} << 20;
constexpr size_t kHugePage = size_t{2} << 20;

size_t round_up(size_t count, size_t to) { return (count + to - 1) / to * to; }

class HostMemory : public MemorySource {
 public:
  std::byte* allocate(size_t bytes) override {
    const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(alignment, round_up(bytes, alignment)));
    if (memory == nullptr)
      fail(ErrorCode::kOutOfMemory, "no memory for {} MiB of activations; use a smaller chunk or picture", bytes >> 20);
    // A product writes a few columns of many rows, each in a page of its own when pages are small.
    if (alignment == kHugePage) ::madvise(memory, round_up(bytes, alignment), MADV_HUGEPAGE);
    return memory;
  }
  void release(std::byte* memory, size_t) noexcept override { std::free(memory); }
  bool on_host() const override { return true; }
};

}  // namespace

std::shared_ptr<MemorySource> host_memory() { return std::make_shared<HostMemory>(); }

Workspace::~Workspace() { drop_chunks(0); }

void Workspace::drop_chunks(size_t kept) {
  for (; chunks_.size() > kept; chunks_.pop_back()) source_->release(chunks_.back().memory, chunks_.back().size);
}

std::byte* Workspace::bytes(size_t count) {
  count = round_up(std::max<size_t>(count, 1), kAlignment);
  while (chunk_ < chunks_.size() && used_ + count > chunks_[chunk_].size) {
    // A chunk nobody uses that is too small is replaced, so that the arena settles at a few large chunks.
    if (used_ == 0) {
      drop_chunks(chunk_);
      break;
    }
    ++chunk_;
    used_ = 0;
  }
  if (chunk_ == chunks_.size()) {
    const size_t last = chunks_.empty() ? 0 : chunks_.back().size;
    const size_t wanted = std::max({count, kSmallestChunk, last + last / 2});
    const size_t size = round_up(wanted, wanted >= kHugePage ? kHugePage : kAlignment);
    chunks_.reserve(chunks_.size() + 1);
    chunks_.push_back({source_->allocate(size), size});
    ++changes_;
    used_ = 0;
  }
  std::byte* result = chunks_[chunk_].memory + used_;
  used_ += count;
  return result;
}

size_t Workspace::capacity() const {
  size_t total = 0;
  for (const Chunk& chunk : chunks_) total += chunk.size;
  return total;
}

}  // namespace vl2

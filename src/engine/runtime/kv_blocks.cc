#include "engine/runtime/kv_blocks.h"

#include <limits>

#include "core/base/error.h"

namespace vl2 {

KvBlocks::KvBlocks(int64_t num_blocks, int64_t block_tokens) : block_tokens_(block_tokens) {
  VL2_CHECK(num_blocks >= 0 && num_blocks <= std::numeric_limits<int32_t>::max() && block_tokens >= 1,
            "{} blocks of {} tokens", num_blocks, block_tokens);
  references_.resize(static_cast<size_t>(num_blocks));
  free_.reserve(references_.size());
  for (int64_t block = num_blocks - 1; block >= 0; --block) free_.push_back(static_cast<int32_t>(block));
}

int64_t KvBlocks::blocks_for(int64_t tokens) const {
  VL2_CHECK(tokens >= 0);
  return tokens / block_tokens_ + (tokens % block_tokens_ != 0 ? 1 : 0);
}

size_t KvBlocks::checked(int32_t block) const {
  VL2_CHECK(block >= 0 && block < num_blocks(), "block {} of {}", block, num_blocks());
  return static_cast<size_t>(block);
}

int32_t KvBlocks::references(int32_t block) const { return references_[checked(block)]; }

void KvBlocks::allocate(int64_t n, std::vector<int32_t>& blocks) {
  VL2_CHECK(n >= 0);
  if (n > num_free())
    fail(ErrorCode::kOutOfMemory,
         "the cache has {} of {} blocks free, {} are needed ({} tokens each); wait for other requests, or give the "
         "engine "
         "a larger cache",
         num_free(), num_blocks(), n, block_tokens_);
  blocks.reserve(blocks.size() + static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    references_[static_cast<size_t>(free_.back())] = 1;
    blocks.push_back(free_.back());
    free_.pop_back();
  }
}

void KvBlocks::retain(std::span<const int32_t> blocks) {
  for (const int32_t block : blocks) {
    int32_t& count = references_[checked(block)];
    VL2_CHECK(count > 0 && count < std::numeric_limits<int32_t>::max(), "block {} has {} users", block, count);
    ++count;
  }
}

void KvBlocks::free(std::span<const int32_t> blocks) {
  for (const int32_t block : blocks) {
    int32_t& count = references_[checked(block)];
    VL2_CHECK(count > 0, "block {} is free already", block);
    if (--count == 0) free_.push_back(block);
  }
}

}  // namespace vl2

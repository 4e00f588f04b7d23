#include "engine/runtime/kv_blocks.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"

namespace vl2 {

KvBlocks::KvBlocks(int64_t num_blocks, int64_t block_tokens) : block_tokens_(block_tokens) {
  VL2_CHECK(num_blocks >= 0 && num_blocks <= std::numeric_limits<int32_t>::max() && block_tokens >= 1,
            "{} blocks of {} tokens", num_blocks, block_tokens);
  blocks_.resize(static_cast<size_t>(num_blocks));
  empty_.reserve(blocks_.size());
  for (int64_t block = num_blocks - 1; block >= 0; --block) empty_.push_back(static_cast<int32_t>(block));
}

int64_t KvBlocks::blocks_for(int64_t tokens) const {
  VL2_CHECK(tokens >= 0);
  return tokens / block_tokens_ + (tokens % block_tokens_ != 0 ? 1 : 0);
}

size_t KvBlocks::checked(int32_t block) const {
  VL2_CHECK(block >= 0 && block < num_blocks(), "block {} of {}", block, num_blocks());
  return static_cast<size_t>(block);
}

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
    if (empty_.empty()) forget(oldest_);
    blocks_[static_cast<size_t>(empty_.back())].references = 1;
    blocks.push_back(empty_.back());
    empty_.pop_back();
  }
  // Read in their order, neighbours are one stretch of memory.
  std::sort(blocks.end() - n, blocks.end());
}

void KvBlocks::retain(std::span<const int32_t> blocks) {
  for (const int32_t block : blocks) {
    int32_t& count = blocks_[checked(block)].references;
    VL2_CHECK(count > 0 && count < std::numeric_limits<int32_t>::max(), "block {} has {} users", block, count);
    ++count;
  }
}

void KvBlocks::free(std::span<const int32_t> blocks) {
  for (size_t i = blocks.size(); i-- > 0;) {
    Block& b = blocks_[checked(blocks[i])];
    VL2_CHECK(b.references > 0, "block {} is free already", blocks[i]);
    if (--b.references > 0) continue;
    if (b.named && b.complete) {
      remember(blocks[i]);
      continue;
    }
    if (b.named) names_.erase(b.key);
    b = {};
    empty_.push_back(blocks[i]);
  }
}

// -1: no block has this name.
int32_t KvBlocks::at(const BlockKey& key) const {
  const auto it = names_.find(key);
  return it == names_.end() ? -1 : it->second;
}

int64_t KvBlocks::known(std::span<const BlockKey> keys) const {
  int64_t n = 0;
  while (n < static_cast<int64_t>(keys.size()) && at(keys[static_cast<size_t>(n)]) >= 0) ++n;
  return n;
}

bool KvBlocks::fits(std::span<const BlockKey> keys, int64_t others) const {
  int64_t left = num_free() - others;
  for (const BlockKey& key : keys)
    if (remembered(blocks_[checked(at(key))])) --left;
  return left >= 0;
}

void KvBlocks::share(std::span<const BlockKey> keys, std::vector<int32_t>& blocks) {
  VL2_CHECK(known(keys) == static_cast<int64_t>(keys.size()));
  blocks.reserve(blocks.size() + keys.size());
  for (const BlockKey& key : keys) {
    const int32_t block = at(key);
    Block& b = blocks_[static_cast<size_t>(block)];
    if (remembered(b)) take_from_remembered(block);
    ++b.references;
    blocks.push_back(block);
  }
}

void KvBlocks::name(int32_t block, const BlockKey& key) {
  Block& b = blocks_[checked(block)];
  VL2_CHECK(b.references > 0 && !b.named, "block {} has {} users{}", block, b.references, b.named ? " and a name" : "");
  if (!names_.emplace(key, block).second) return;
  b.key = key;
  b.named = true;
}

void KvBlocks::complete(int32_t block) {
  Block& b = blocks_[checked(block)];
  VL2_CHECK(b.references > 0, "block {} is nobody's", block);
  b.complete = true;
}

void KvBlocks::forget_all() {
  while (oldest_ >= 0) forget(oldest_);
  for (Block& b : blocks_) b.named = false;
  names_.clear();
}

// Behind all others.
void KvBlocks::remember(int32_t block) {
  Block& b = blocks_[static_cast<size_t>(block)];
  b.before = newest_;
  b.after = -1;
  if (newest_ >= 0) {
    blocks_[static_cast<size_t>(newest_)].after = block;
  } else {
    oldest_ = block;
  }
  newest_ = block;
  ++num_remembered_;
}

void KvBlocks::take_from_remembered(int32_t block) {
  const Block& b = blocks_[static_cast<size_t>(block)];
  (b.before >= 0 ? blocks_[static_cast<size_t>(b.before)].after : oldest_) = b.after;
  (b.after >= 0 ? blocks_[static_cast<size_t>(b.after)].before : newest_) = b.before;
  --num_remembered_;
}

void KvBlocks::forget(int32_t block) {
  take_from_remembered(block);
  Block& b = blocks_[static_cast<size_t>(block)];
  names_.erase(b.key);
  b = {};
  empty_.push_back(block);
}

}  // namespace vl2

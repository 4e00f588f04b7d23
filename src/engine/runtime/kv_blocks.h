// Which blocks of the KV cache are in use, by how many, and what they hold. Blocks are numbered 0 to num_blocks - 1;
// the cache itself is the backend's.
//
// A block may be shared (a common prefix): it is free again when its last user frees it. A free block that has a name
// and is complete stays remembered until its room is needed: whoever knows the name can share it. Forgotten is what was
// freed longest ago, of a sequence's blocks the last one first, so that whatever is remembered can be reached from the
// first block on.
//
// Owned by the engine; used by the engine's thread only.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/base/sha256.h"

namespace vl2 {

// Of a block's contents and of everything before them (prefix_keys.h).
using BlockKey = Digest;

class KvBlocks {
 public:
  KvBlocks(int64_t num_blocks, int64_t block_tokens);

  int64_t num_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t num_free() const { return num_remembered_ + static_cast<int64_t>(empty_.size()); }
  int64_t num_remembered() const { return num_remembered_; }  // of the free ones
  int64_t num_used() const { return num_blocks() - num_free(); }
  int64_t block_tokens() const { return block_tokens_; }
  int64_t blocks_for(int64_t tokens) const;  // rounded up

  // Appends n blocks with one user each to `blocks`, by ascending number, forgetting what they held. kOutOfMemory, with
  // nothing taken, when fewer are free.
  void allocate(int64_t n, std::vector<int32_t>& blocks);
  // One more user of each; they have one already.
  void retain(std::span<const int32_t> blocks);
  // One user less of each, from the last to the first; of one named twice, two.
  void free(std::span<const int32_t> blocks);

  // --- what blocks hold ---

  // How many of these keys, from the first on, name a block.
  int64_t known(std::span<const BlockKey> keys) const;
  // Whether the blocks of these keys, all known, and so many others could be had together.
  bool fits(std::span<const BlockKey> keys, int64_t others) const;
  // Appends the blocks of these keys, all known, to `blocks`: one more user of each.
  void share(std::span<const BlockKey> keys, std::vector<int32_t>& blocks);
  // Names a block in use that has no name. Nothing happens where another block has that name.
  void name(int32_t block, const BlockKey& key);
  // All rows of a block in use are there. Until then it can be shared, but is not remembered.
  void complete(int32_t block);
  bool is_complete(int32_t block) const { return blocks_[checked(block)].complete; }
  // No block has a name any more.
  void forget_all();

  int32_t references(int32_t block) const { return blocks_[checked(block)].references; }

 private:
  struct Block {
    BlockKey key;
    int32_t references = 0;
    bool named = false;
    bool complete = false;
    int32_t before = 0, after = 0;  // remembered: neighbours in the order of being freed
  };

  size_t checked(int32_t block) const;
  bool remembered(const Block& block) const { return block.references == 0 && block.named; }
  int32_t at(const BlockKey& key) const;
  void remember(int32_t block);
  void take_from_remembered(int32_t block);
  void forget(int32_t block);

  std::vector<Block> blocks_;
  std::unordered_map<BlockKey, int32_t> names_;
  std::vector<int32_t> empty_;  // used as a stack: a block just freed is still warm
  int32_t oldest_ = -1, newest_ = -1;
  int64_t num_remembered_ = 0;
  int64_t block_tokens_;
};

}  // namespace vl2

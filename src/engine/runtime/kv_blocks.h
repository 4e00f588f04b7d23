// Which blocks of the KV cache are in use, and by how many. Blocks are numbered 0 to num_blocks - 1; the cache itself
// is the backend's. A block may be shared (a common prefix): it is free again when its last user frees it.
//
// Owned by the engine; used by the engine's thread only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace vl2 {

class KvBlocks {
 public:
  KvBlocks(int64_t num_blocks, int64_t block_tokens);

  int64_t num_blocks() const { return static_cast<int64_t>(references_.size()); }
  int64_t num_free() const { return static_cast<int64_t>(free_.size()); }
  int64_t num_used() const { return num_blocks() - num_free(); }
  int64_t block_tokens() const { return block_tokens_; }
  int64_t blocks_for(int64_t tokens) const;  // rounded up

  // Appends n blocks with one reference each to `blocks`. kOutOfMemory, with nothing taken, when fewer are free.
  void allocate(int64_t n, std::vector<int32_t>& blocks);
  // One more user of each.
  void retain(std::span<const int32_t> blocks);
  // One user less of each; of one named twice, two.
  void free(std::span<const int32_t> blocks);

  int32_t references(int32_t block) const;

 private:
  size_t checked(int32_t block) const;

  std::vector<int32_t> references_;
  std::vector<int32_t> free_;  // used as a stack: a block just freed is still warm
  int64_t block_tokens_;
};

}  // namespace vl2

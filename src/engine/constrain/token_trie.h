// The bytes of every plain token of a vocabulary as a tree, so that all tokens that begin alike are judged at once.
//
// Added tokens are left out: inside of constrained text they are symbols of their own or not allowed at all. Immutable
// once made; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/text/tokenizer.h"

namespace vl2 {

class TokenTrie {
 public:
  // Nodes in depth-first order; a node's subtree is what follows it up to `skip`.
  struct Node {
    int32_t skip = 0;    // the first node behind the subtree
    int32_t token = -1;  // the id that ends here; -1: none
    uint16_t depth = 0;  // bytes up to here, this one included
    uint8_t byte = 0;
  };

  explicit TokenTrie(const Tokenizer& tokenizer);

  const std::vector<Node>& nodes() const { return nodes_; }
  int max_depth() const { return max_depth_; }
  // The ids of several tokens with the same bytes: (the one in the tree, another one), sorted.
  const std::vector<std::pair<int32_t, int32_t>>& twins() const { return twins_; }
  // Whether a token of this one byte exists. Text is only promised to go on where it does.
  bool has_byte(uint8_t byte) const { return has_byte_[byte]; }

 private:
  std::vector<Node> nodes_;
  std::vector<std::pair<int32_t, int32_t>> twins_;
  std::array<bool, 256> has_byte_{};
  int max_depth_ = 0;
};

}  // namespace vl2

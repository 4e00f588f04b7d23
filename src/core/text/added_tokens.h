// The tokens of a vocabulary that are found in a text as they are written, before anything else looks at it.
//
// Built once; any thread may search.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "core/text/regex.h"

namespace vl2 {

struct AddedToken {
  int32_t id = 0;
  bool special = false;
  bool normalized = false;  // searched for only in what the others leave
  bool lstrip = false;      // takes the whitespace in front of it along
  bool rstrip = false;      // and behind it
};

struct AddedTokenMatch {
  int32_t id = 0;
  Span span;
};

// A trie over bytes: the leftmost match, of these the longest.
class AddedTokenTrie {
 public:
  static constexpr size_t kMaxContent = 1024;  // bytes of a token: bounds the work per byte of text

  AddedTokenTrie() : nodes_(1) {}

  // content is not empty; the last of equal ones stays.
  void insert(std::string_view content, const AddedToken& token);

  // The first match at or after `start`; with `allowed`, only of these ids.
  std::optional<AddedTokenMatch> find(std::string_view text, size_t start,
                                      const std::optional<std::span<const int32_t>>& allowed) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, uint32_t>> children;  // sorted by byte
    std::optional<AddedToken> token;
  };
  uint32_t child(uint32_t node, char byte) const;  // 0: none
  const AddedToken* longest_at(std::string_view text, size_t begin,
                               const std::optional<std::span<const int32_t>>& allowed, size_t& end) const;

  std::vector<Node> nodes_;  // [0] is the root
};

}  // namespace vl2

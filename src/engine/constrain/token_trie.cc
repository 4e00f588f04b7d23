#include "engine/constrain/token_trie.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace vl2 {
namespace {

constexpr size_t kLongestToken = 4096;  // longer ones are never allowed; the releases' longest has 128 bytes

size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

TokenTrie::TokenTrie(const Tokenizer& tokenizer) {
  std::vector<std::pair<std::string_view, int32_t>> tokens;
  for (int32_t id = 0; id <= tokenizer.highest_id(); ++id) {
    if (!tokenizer.has(id) || tokenizer.is_added(id)) continue;
    const std::string_view text = tokenizer.token_text(id);
    if (text.empty() || text.size() > kLongestToken) continue;
    tokens.emplace_back(text, id);
    if (text.size() == 1) has_byte_[static_cast<uint8_t>(text.front())] = true;
  }
  std::sort(tokens.begin(), tokens.end());

  std::vector<size_t> open;  // the nodes from the root to where the token before ended
  std::string_view before;
  for (const auto& [text, id] : tokens) {
    const size_t shared = common_prefix(before, text);
    if (shared == text.size() && !before.empty()) {
      twins_.emplace_back(nodes_[open.back()].token, id);
      continue;
    }
    for (; open.size() > shared; open.pop_back()) nodes_[open.back()].skip = static_cast<int32_t>(nodes_.size());
    for (size_t i = shared; i < text.size(); ++i) {
      open.push_back(nodes_.size());
      nodes_.push_back({0, -1, static_cast<uint16_t>(i + 1), static_cast<uint8_t>(text[i])});
    }
    nodes_.back().token = id;
    max_depth_ = std::max(max_depth_, static_cast<int>(text.size()));
    before = text;
  }
  for (const size_t node : open) nodes_[node].skip = static_cast<int32_t>(nodes_.size());
}

}  // namespace vl2

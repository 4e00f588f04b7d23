#include "core/text/added_tokens.h"

#include <algorithm>

#include "core/text/utf8.h"

namespace vl2 {
namespace {

size_t spaces_before(std::string_view text, size_t begin, size_t limit) {
  while (begin > limit) {
    size_t at = begin - 1;
    while (at > limit && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    if (!is_white_space(utf8_code_point(text, at))) break;
    begin = at;
  }
  return begin;
}

size_t spaces_behind(std::string_view text, size_t end) {
  while (end < text.size() && is_white_space(utf8_code_point(text, end))) end += utf8_length(text, end);
  return end;
}

}  // namespace

uint32_t AddedTokenTrie::child(uint32_t node, char byte) const {
  const auto& children = nodes_[node].children;
  const auto value = static_cast<unsigned char>(byte);
  const auto it = std::lower_bound(children.begin(), children.end(), value,
                                   [](const auto& child, unsigned char b) { return child.first < b; });
  return it != children.end() && it->first == value ? it->second : 0;
}

void AddedTokenTrie::insert(std::string_view content, const AddedToken& token) {
  uint32_t node = 0;
  for (const char byte : content) {
    uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      auto& children = nodes_[node].children;
      children.emplace_back(static_cast<unsigned char>(byte), next);
      std::sort(children.begin(), children.end());
    }
    node = next;
  }
  nodes_[node].token = token;
}

const AddedToken* AddedTokenTrie::longest_at(std::string_view text, size_t begin,
                                             const std::optional<std::span<const int32_t>>& allowed,
                                             size_t& end) const {
  const AddedToken* found = nullptr;
  uint32_t node = 0;
  for (size_t at = begin; at < text.size(); ++at) {
    node = child(node, text[at]);
    if (node == 0) break;
    const auto& token = nodes_[node].token;
    if (!token || (allowed && std::find(allowed->begin(), allowed->end(), token->id) == allowed->end())) continue;
    found = &*token;
    end = at + 1;
  }
  return found;
}

std::optional<AddedTokenMatch> AddedTokenTrie::find(std::string_view text, size_t start,
                                                    const std::optional<std::span<const int32_t>>& allowed) const {
  if (nodes_.size() == 1) return std::nullopt;
  std::array<bool, 256> can_start{};
  for (const auto& entry : nodes_[0].children) can_start[entry.first] = true;
  for (size_t begin = start; begin < text.size(); ++begin) {
    if (!can_start[static_cast<unsigned char>(text[begin])]) continue;
    size_t end = 0;
    const AddedToken* token = longest_at(text, begin, allowed, end);
    if (token == nullptr) continue;
    return AddedTokenMatch{
        token->id,
        {token->lstrip ? spaces_before(text, begin, start) : begin, token->rstrip ? spaces_behind(text, end) : end}};
  }
  return std::nullopt;
}

}  // namespace vl2

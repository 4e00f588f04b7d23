#include "engine/runtime/prompt_lookup.h"

#include <algorithm>

#include "core/base/error.h"

namespace vl2 {
namespace {

constexpr int32_t kVision = -1;
constexpr int64_t kNowhere = -1;

}  // namespace

void PromptLookup::push(int32_t id) {
  VL2_CHECK(id >= 0, "token id {}", id);
  const auto [place, is_new] = last_.try_emplace(id, size());
  previous_.push_back(is_new ? kNowhere : place->second);
  place->second = size();
  ids_.push_back(id);
}

void PromptLookup::push_vision() {
  previous_.push_back(kNowhere);
  ids_.push_back(kVision);
}

// How many tokens before `end` equal the last ones of the text.
int64_t PromptLookup::match_length(int64_t end) const {
  const int64_t most = std::min(kLongestMatch, end);
  int64_t length = 0;
  while (length < most) {
    const int32_t id = ids_[static_cast<size_t>(end - 1 - length)];
    if (id == kVision || id != ids_[static_cast<size_t>(size() - 1 - length)]) break;
    ++length;
  }
  return length;
}

PromptLookup::Match PromptLookup::match() const {
  Match best;
  if (ids_.empty()) return best;
  int64_t place = previous_.back();
  for (int64_t i = 0; i < kPlaces && place != kNowhere && best.length < kLongestMatch; ++i) {
    if (ids_[static_cast<size_t>(place + 1)] != kVision) {
      const int64_t length = match_length(place + 1);
      if (length > best.length) best = {length, place + 1};
    }
    place = previous_[static_cast<size_t>(place)];
  }
  return best;
}

std::vector<int32_t> PromptLookup::continuation(const Match& match, int64_t most) const {
  std::vector<int32_t> ids;
  if (match.length == 0) return ids;
  const int64_t period = size() - match.next;
  for (int64_t i = 0; i < most; ++i) {
    const int32_t id = ids_[static_cast<size_t>(match.next + i % period)];
    if (id == kVision) break;
    ids.push_back(id);
  }
  return ids;
}

}  // namespace vl2

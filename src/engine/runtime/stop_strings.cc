#include "engine/runtime/stop_strings.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/base/error.h"

namespace vl2 {
namespace {

constexpr size_t kMaxStrings = 64;
constexpr size_t kMaxBytes = 1024;

// Enough to know that the string starts and ends at whole characters.
bool whole_characters(std::string_view s) {
  for (size_t i = 0; i < s.size();) {
    const auto lead = static_cast<unsigned char>(s[i]);
    const size_t length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
    if (length == 0 || lead > 0xf4 || i + length > s.size()) return false;
    for (size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(s[i + k]) & 0xc0) != 0x80) return false;
    i += length;
  }
  return true;
}

// Length of the longest end of `text` that `string` starts with, without being complete.
size_t overlap(std::string_view text, std::string_view string) {
  for (size_t n = std::min(text.size(), string.size() - 1); n > 0; --n)
    if (text.ends_with(string.substr(0, n))) return n;
  return 0;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) { check(strings_); }

void StopStrings::check(const std::vector<std::string>& strings) {
  if (strings.size() > kMaxStrings)
    fail(ErrorCode::kInvalidArgument, "{} stop strings; at most {} are accepted", strings.size(), kMaxStrings);
  for (size_t i = 0; i < strings.size(); ++i) {
    if (strings[i].empty() || strings[i].size() > kMaxBytes)
      fail(ErrorCode::kInvalidArgument, "stop string {} has {} bytes; 1 to {} are accepted", i, strings[i].size(),
           kMaxBytes);
    if (!whole_characters(strings[i])) fail(ErrorCode::kInvalidArgument, "stop string {} is not valid UTF-8", i);
  }
}

std::string StopStrings::push(const std::string& text) {
  if (matched_) return {};
  pending_ += text;
  size_t first_end = pending_.npos, begin = 0;
  for (const std::string& s : strings_) {
    const size_t at = pending_.find(s);
    if (at == pending_.npos) continue;
    if (at + s.size() < first_end || (at + s.size() == first_end && at < begin)) {
      first_end = at + s.size();
      begin = at;
      matched_ = s;
    }
  }
  if (matched_) return std::exchange(pending_, {}).substr(0, begin);
  size_t held = 0;
  for (const std::string& s : strings_) held = std::max(held, overlap(pending_, s));
  std::string released = pending_.substr(0, pending_.size() - held);
  pending_.erase(0, released.size());
  return released;
}

std::string StopStrings::finish() { return matched_ ? std::string() : std::exchange(pending_, {}); }

}  // namespace vl2

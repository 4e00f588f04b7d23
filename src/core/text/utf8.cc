#include "core/text/utf8.h"

#include <simdjson.h>

namespace vl2 {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

constexpr bool is_continuation(unsigned char c) { return (c & 0xC0) == 0x80; }

// How long a character with this first byte is (0: none starts so), and what its second byte may be.
struct Lead {
  size_t length;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
};

constexpr Lead classify(unsigned char c) {
  if (c < 0x80) return {1};
  if (c >= 0xC2 && c <= 0xDF) return {2};
  if (c == 0xE0) return {3, 0xA0, 0xBF};
  if (c == 0xED) return {3, 0x80, 0x9F};
  if (c >= 0xE1 && c <= 0xEF) return {3};
  if (c == 0xF0) return {4, 0x90, 0xBF};
  if (c >= 0xF1 && c <= 0xF3) return {4};
  if (c == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

enum class Step { kCharacter, kInvalid, kIncomplete };

// What stands at bytes[pos], and how many bytes of it.
Step next_step(std::string_view bytes, size_t pos, size_t& length) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const Lead lead = classify(at(pos));
  length = 1;
  if (lead.length == 0) return Step::kInvalid;
  for (; length < lead.length; ++length) {
    if (pos + length == bytes.size()) return Step::kIncomplete;
    const unsigned char c = at(pos + length);
    if (length == 1 ? c < lead.low || c > lead.high : !is_continuation(c)) return Step::kInvalid;
  }
  return Step::kCharacter;
}

// Like utf8_code_point(), but for any bytes: a byte that starts no character stands for itself beyond Unicode.
char32_t lenient_code_point(std::string_view bytes, size_t pos, size_t& length) {
  if (next_step(bytes, pos, length) == Step::kCharacter) return utf8_code_point(bytes, pos);
  length = 1;
  return 0x110000;
}

bool is_python_space(char32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

}  // namespace

bool is_valid_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

std::string repair_utf8(std::string_view text) {
  std::string out;
  Utf8Repair repair;
  repair.append(text, out);
  repair.finish(out);
  return out;
}

void Utf8Repair::append(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!pending_.empty()) {
    joined = std::move(pending_);
    joined += bytes;
    bytes = joined;
    pending_.clear();
  }
  size_t length = 0;
  size_t begin = 0;  // of the valid run not copied yet
  for (size_t pos = 0; pos < bytes.size(); pos += length) {
    const Step step = next_step(bytes, pos, length);
    if (step == Step::kCharacter) continue;
    out += bytes.substr(begin, pos - begin);
    begin = pos + length;
    if (step == Step::kIncomplete) {
      pending_ = bytes.substr(pos);
      return;
    }
    out += kReplacement;
  }
  out += bytes.substr(begin);
}

void Utf8Repair::finish(std::string& out) {
  if (!pending_.empty()) out += kReplacement;
  pending_.clear();
}

size_t utf8_length(std::string_view text, size_t pos) {
  const auto c = static_cast<unsigned char>(text[pos]);
  return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

char32_t utf8_code_point(std::string_view text, size_t pos) {
  const auto at = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[pos + i])); };
  switch (utf8_length(text, pos)) {
    case 1:
      return at(0);
    case 2:
      return ((at(0) & 0x1F) << 6) | (at(1) & 0x3F);
    case 3:
      return ((at(0) & 0x0F) << 12) | ((at(1) & 0x3F) << 6) | (at(2) & 0x3F);
    default:
      return ((at(0) & 0x07) << 18) | ((at(1) & 0x3F) << 12) | ((at(2) & 0x3F) << 6) | (at(3) & 0x3F);
  }
}

void append_utf8(char32_t code_point, std::string& out) {
  const auto put = [&](char32_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

std::string_view python_lstrip(std::string_view text) {
  size_t length = 0;
  while (!text.empty() && is_python_space(lenient_code_point(text, 0, length))) text.remove_prefix(length);
  return text;
}

std::string_view python_rstrip(std::string_view text) {
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 4 && is_continuation(static_cast<unsigned char>(text[start]))) --start;
    size_t length = 0;
    if (!is_python_space(lenient_code_point(text, start, length)) || start + length != text.size()) break;
    text = text.substr(0, start);
  }
  return text;
}

std::string_view python_strip(std::string_view text) { return python_lstrip(python_rstrip(text)); }

}  // namespace vl2

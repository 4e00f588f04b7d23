#include "core/base/base64.h"

#include <array>
#include <cstddef>
#include <cstdint>

namespace vl2 {
namespace {

constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint32_t kNone = 0x80;  // no digit: a bit that no value has

// Of every byte, in both alphabets.
constexpr std::array<uint8_t, 256> kValues = [] {
  std::array<uint8_t, 256> values{};
  values.fill(kNone);
  for (size_t i = 0; i < kDigits.size(); ++i) values[static_cast<unsigned char>(kDigits[i])] = static_cast<uint8_t>(i);
  values['-'] = 62;
  values['_'] = 63;
  return values;
}();
uint32_t value_of(char c) { return kValues[static_cast<unsigned char>(c)]; }

// Pictures are megabytes of digits without anything between them: the groups in front, four digits at a time. What it
// stops at is for the loop that looks at every character.
size_t decode_groups(std::string_view text, std::string& bytes) {
  bytes.resize(text.size() / 4 * 3);
  size_t at = 0;
  char* out = bytes.data();
  for (; at + 4 <= text.size(); at += 4) {
    const uint32_t a = value_of(text[at]), b = value_of(text[at + 1]), c = value_of(text[at + 2]),
                   d = value_of(text[at + 3]);
    if (((a | b | c | d) & kNone) != 0) break;
    const uint32_t group = a << 18 | b << 12 | c << 6 | d;
    for (const int shift : {16, 8, 0}) *out++ = static_cast<char>(group >> shift & 0xff);
  }
  bytes.resize(at / 4 * 3);
  return at;
}

}  // namespace

std::optional<std::string> decode_base64(std::string_view text) {
  std::string bytes;
  text.remove_prefix(decode_groups(text, bytes));
  uint32_t group = 0;
  size_t digits = 0, padding = 0;
  for (const char c : text) {
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') continue;
    if (c == '=') {
      ++padding;
      continue;
    }
    const uint32_t value = value_of(c);
    if (value == kNone || padding > 0) return std::nullopt;
    group = group << 6 | value;
    if (++digits % 4 == 0)
      for (const int shift : {16, 8, 0}) bytes += static_cast<char>(group >> shift & 0xff);
  }
  const size_t rest = digits % 4;  // of the last group: 2 digits are one byte, 3 are two
  if (rest == 1 || padding > 2 || (padding > 0 && (rest + padding) % 4 != 0)) return std::nullopt;
  if (rest >= 2) bytes += static_cast<char>(group >> (rest == 2 ? 4 : 10) & 0xff);
  if (rest == 3) bytes += static_cast<char>(group >> 2 & 0xff);
  return bytes;
}

std::string encode_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const std::string_view group = bytes.substr(i, 3);
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; ++j) bits = bits << 8 | (j < group.size() ? static_cast<unsigned char>(group[j]) : 0U);
    for (size_t j = 0; j < 4; ++j) text += j <= group.size() ? kDigits[bits >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

}  // namespace vl2

#include "core/text/byte_level.h"

#include <array>

#include "core/text/utf8.h"

namespace vl2 {
namespace {

constexpr bool stands_for_itself(unsigned c) {
  return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF);
}

struct Tables {
  std::array<char32_t, 256> character{};
  std::array<int, 0x144> byte{};  // by character; -1: none
};

constexpr Tables make_tables() {
  Tables tables;
  for (int& b : tables.byte) b = -1;
  char32_t next = 0x100;
  for (unsigned b = 0; b < 256; ++b) {
    const char32_t c = stands_for_itself(b) ? static_cast<char32_t>(b) : next++;
    tables.character[b] = c;
    tables.byte[c] = static_cast<int>(b);
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

char32_t byte_level_character(uint8_t byte) { return kTables.character[byte]; }

std::optional<std::string> byte_level_bytes(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t pos = 0; pos < text.size(); pos += utf8_length(text, pos)) {
    const char32_t c = utf8_code_point(text, pos);
    if (c >= kTables.byte.size() || kTables.byte[c] < 0) return std::nullopt;
    bytes += static_cast<char>(static_cast<unsigned char>(kTables.byte[c]));
  }
  return bytes;
}

std::string byte_level_spelling(std::string_view bytes) {
  std::string text;
  for (const char b : bytes) append_utf8(byte_level_character(static_cast<uint8_t>(b)), text);
  return text;
}

}  // namespace vl2

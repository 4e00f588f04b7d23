// GPT-2's printable spelling of bytes: every byte is one character, so that a vocabulary of byte strings fits in JSON.
// Pure functions; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vl2 {

// Printable ASCII and Latin-1 stand for themselves, the other 68 bytes are U+0100 and up, in order.
char32_t byte_level_character(uint8_t byte);

// "Ġthe" -> " the"; empty if some character stands for no byte (text is valid UTF-8).
std::optional<std::string> byte_level_bytes(std::string_view text);

// " the" -> "Ġthe"
std::string byte_level_spelling(std::string_view bytes);

}  // namespace vl2

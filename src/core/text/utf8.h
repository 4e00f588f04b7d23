// UTF-8 the way the rest of the text layer needs it: lossy repair, whitespace, a repair that works on a stream.
//
// Pure functions and one small value type; any thread, each Utf8Repair used by one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace vl2 {

bool is_valid_utf8(std::string_view text);

// Invalid parts become U+FFFD, one for each maximal part that could have begun a character: what Rust's
// String::from_utf8_lossy does, and with it the reference's tokenizer.
std::string repair_utf8(std::string_view text);

// The same over a stream: the concatenation of everything append() and finish() give is repair_utf8() of the whole.
// A character that is not complete yet is held back (at most 3 bytes).
class Utf8Repair {
 public:
  void append(std::string_view bytes, std::string& out);
  void finish(std::string& out);  // ready for a new stream afterwards

 private:
  std::string pending_;  // a proper prefix of a character
};

// Bytes of the character that starts at text[pos]; text is valid UTF-8.
size_t utf8_length(std::string_view text, size_t pos);
char32_t utf8_code_point(std::string_view text, size_t pos);
void append_utf8(char32_t code_point, std::string& out);

// Unicode's White_Space property: what \s means in the tokenizers' patterns.
bool is_white_space(char32_t c);

// Without the whitespace at both ends, as Python's str.strip(): White_Space and U+001C to U+001F.
// The bytes of characters that are not valid UTF-8 are kept.
std::string_view python_strip(std::string_view text);
std::string_view python_lstrip(std::string_view text);
std::string_view python_rstrip(std::string_view text);

}  // namespace vl2

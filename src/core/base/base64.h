// Base64 as people send it. Pure function: any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace vl2 {

// Both alphabets (+ / and - _), white space anywhere, padding that may be missing. nullopt: anything else.
std::optional<std::string> decode_base64(std::string_view text);

// With + and /, padded, on one line.
std::string encode_base64(std::string_view bytes);

}  // namespace vl2

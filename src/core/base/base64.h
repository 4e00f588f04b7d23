// Base64 as people send it, and as it should be. Pure functions: any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace vl2 {

// Both alphabets (+ / and - _), white space anywhere, padding that may be missing. nullopt: anything else.
std::optional<std::string> decode_base64(std::string_view text);

// The standard alphabet, padded, in one line.
std::string encode_base64(std::string_view bytes);

}  // namespace vl2

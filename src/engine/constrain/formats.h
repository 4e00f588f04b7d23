// The formats of JSON schema strings that constraints know, as regular expressions of whole strings.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace vl2 {

// Empty: not known. Dates are days that exist; times are those of RFC 3339.
std::optional<std::string> format_pattern(std::string_view format);
std::string known_formats();  // "date, date-time, ..."

}  // namespace vl2

// Sizes for people.
#pragma once

#include <cstdint>
#include <string>

namespace vl2 {

std::string format_bytes(int64_t bytes);  // "1.50 GiB"

}  // namespace vl2

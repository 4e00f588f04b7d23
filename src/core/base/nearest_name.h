// "Did you mean": the known name that a mistyped word is closest to. Pure function.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace vl2 {

// The name of `known` with the least edit distance (changes, insertions, deletions, swaps of neighbours) to `word`, if
// that is at most a third of its length and 1 at least; "" otherwise, and for words of more than 64 bytes.
std::string nearest_name(std::string_view word, std::span<const std::string> known);

}  // namespace vl2

// Sets of Unicode characters, and the bytes they are written with: UTF-8, or UTF-8 within a JSON string.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/constrain/grammar.h"

namespace vl2 {

struct CodePoints {
  char32_t low = 0, high = 0;
  bool operator==(const CodePoints&) const = default;
};
using CodePointSet = std::vector<CodePoints>;

inline constexpr char32_t kLastCodePoint = 0x10ffff;

CodePointSet normalised(CodePointSet set);         // sorted, without overlaps, without surrogates
CodePointSet complement(const CodePointSet& set);  // of all characters; surrogates are none

enum class Spelling {
  kPlain,
  kJson,  // as it stands inside of a JSON string: quote, backslash and controls escaped, each in its usual way
};

// Edges for every character of the set.
void add_code_points(GrammarBuilder& builder, GrammarBuilder::StateId from, GrammarBuilder::StateId to,
                     const CodePointSet& set, Spelling spelling);

}  // namespace vl2

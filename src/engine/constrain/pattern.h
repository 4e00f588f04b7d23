// Regular expressions as constraints: parsed here, run as a Grammar, in time linear in the text.
//
// Understood: characters, ".", classes with ranges and negation, \d \w \s \D \W \S (ASCII), \t \n \r \f \v \0, \xHH,
// \uHHHH, escaped punctuation, groups (capturing or "(?:"), "|", "*", "+", "?", "{n}", "{n,}", "{n,m}", also lazy; "^"
// at the beginning and "$" at the end of the whole or of an alternative of it. All else (look-around, references, word
// boundaries, properties, ...) is refused with kInvalidArgument, which says where it stands.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/constrain/code_points.h"

namespace vl2 {

struct Pattern {
  enum class Kind { kEmpty, kSet, kSequence, kChoice, kRepeat };
  static constexpr int kNoLimit = -1;
  struct Node {
    Kind kind = Kind::kEmpty;
    CodePointSet set;                         // kSet
    std::vector<size_t> parts;                // kSequence, kChoice; kRepeat: one
    int least = 0, most = 0;                  // kRepeat
    bool from_start = false, to_end = false;  // of an alternative of the whole: it had "^", "$"
  };
  std::vector<Node> nodes;
  size_t root = 0;  // kChoice, of the alternatives of the whole
};

inline constexpr size_t kLongestPattern = 16384;

// `what` names the pattern in errors: "the regular expression", "#/properties/a/pattern". The text is UTF-8.
Pattern parse_pattern(std::string_view text, const std::string& what);

enum class Matching {
  kWhole,     // the text is what the pattern matches, whether it says "^" and "$" or not
  kAnywhere,  // the text holds a match somewhere, unless "^" and "$" say where: JSON Schema
};
void add_pattern(GrammarBuilder& builder, GrammarBuilder::StateId from, GrammarBuilder::StateId to,
                 const Pattern& pattern, Matching matching, Spelling spelling);

}  // namespace vl2

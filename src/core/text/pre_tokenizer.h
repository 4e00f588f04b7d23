// The pre_tokenizer object of a tokenizer.json: cuts a text into the pieces BPE may not merge across.
//
// Understood: Sequence of Split (Regex or String, all five behaviours), Digits and, as the last step, ByteLevel.
// Anything else is refused by name. Immutable once parsed: any thread may cut, each with its own scratch.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/regex.h"

namespace vl2 {

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// One step: where the pattern matches, and what becomes of the matches.
struct SplitStep {
  std::vector<Regex> regex;  // none or one
  std::string literal;       // used without a regex; empty: matches nowhere
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
  bool add_prefix_space = false;  // a space in front of every piece without one, before matching
};

class PreTokenizer {
 public:
  // Buffers of one encode() call, reused over its spans.
  struct Scratch {
    RegexScratch regex;
    std::vector<Span> matches;
    std::vector<std::string_view> pieces;
    std::vector<std::string_view> next;
    std::deque<std::string> prefixed;  // texts of the pieces that add_prefix_space made
  };

  void add(SplitStep step) { steps_.push_back(std::move(step)); }

  // The pieces of the text (valid UTF-8) in order; valid until the text or the scratch changes.
  const std::vector<std::string_view>& split(std::string_view text, Scratch& scratch) const;

 private:
  std::vector<SplitStep> steps_;
};

// The pattern of a ByteLevel step with use_regex: GPT-2's.
extern const char* const kGpt2Pattern;

}  // namespace vl2

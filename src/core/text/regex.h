// The regular expressions of tokenizer.json, run by PCRE2 with the meaning they have in the reference (Oniguruma
// through the Rust tokenizers): \s is Unicode's White_Space, `.` stops at \n only, `$` is the end of the subject.
//
// A Regex is immutable and shared by any number of threads; each search needs a RegexScratch of its own.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vl2 {

struct Span {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const Span&) const = default;
};

// Match data and a JIT stack that grows on demand: one per thread and encode.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class Regex {
 public:
  // `where` names the pattern in errors. kCorrupt: not a regular expression. kUnsupported: constructs that engines
  // read differently (\w, \b, \h, nested classes, verbs, ...), so that a wrong split is never silent.
  // use_jit = false is for tests: both ways give the same matches.
  Regex(const std::string& pattern, const std::string& where, bool use_jit = true);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // All matches of the subject (valid UTF-8, seen as the whole text), leftmost first, without overlap; an empty match
  // right after another match does not count. kInvalidArgument if a match needs more steps than 16 million plus 64 a
  // byte of the subject.
  void find_all(std::string_view subject, RegexScratch& scratch, std::vector<Span>& matches) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The pattern PCRE2 is given for a pattern of tokenizer.json; errors as above. Exposed for tests.
std::string translate_pattern(const std::string& pattern, const std::string& where);

}  // namespace vl2

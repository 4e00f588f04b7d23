// What Oniguruma and PCRE2 read differently is rewritten, or refused by name.
#include "core/base/error.h"
#include "core/text/regex.h"
#include "core/text/utf8.h"

namespace vl2 {
namespace {

// White_Space. PCRE2's own \s adds U+180E, its \p{White_Space} exists only since 10.40.
constexpr std::string_view kSpace =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
constexpr std::string_view kNotSpace =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}"
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

class Translator {
 public:
  Translator(const std::string& pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string run() {
    while (pos_ < in_.size()) {
      const char c = in_[pos_];
      if (c == '\\')
        escape(/*in_class=*/false);
      else if (c == '[')
        char_class();
      else if (c == '(')
        group();
      else if (c == '{' && peek(1) == ',')
        refuse("{,n}");
      else if (c == '}' && peek(1) == '+')
        refuse("a possessive {n,m}+");
      else
        copy(1);
    }
    return out_;
  }

 private:
  char peek(size_t ahead) const { return pos_ + ahead < in_.size() ? in_[pos_ + ahead] : '\0'; }
  std::string_view rest() const { return std::string_view(in_).substr(pos_); }
  void copy(size_t n) {
    out_ += rest().substr(0, n);
    pos_ = std::min(pos_ + n, in_.size());
  }
  [[noreturn]] void refuse(std::string_view what) const {
    fail(ErrorCode::kUnsupported, "{}: the pattern has {} at byte {}, which regex engines read differently", where_,
         what, pos_);
  }

  void escape(bool in_class) {
    const char c = peek(1);
    switch (c) {
      case 's':
      case 'S':
        if (in_class)
          out_ += c == 's' ? kSpace : kNotSpace;
        else
          out_ += fmt::format("[{}{}]", c == 's' ? "" : "^", kSpace);
        pos_ += 2;
        return;
      case 'p':
      case 'P':
        return peek(2) == '{' ? copy_braced() : copy(2);
      case 'd':
      case 'D':
      case 'r':
      case 'n':
      case 't':
      case 'f':
        return copy(2);
      case 'u': {
        for (size_t i = 2; i < 6; ++i)
          if (!is_hex(peek(i))) refuse("\\u without four hexadecimal digits");
        out_ += fmt::format("\\x{{{}}}", rest().substr(2, 4));
        pos_ += 6;
        return;
      }
      case 'x':
        if (peek(2) == '{') return copy_braced();
        if (!is_hex(peek(2)) || peek(2) > '7' || !is_hex(peek(3))) refuse("\\x of a byte that is no character");
        return copy(4);
      case 'A':
      case 'z':
        if (!in_class) return copy(2);
        break;
      case '\0':
        fail(ErrorCode::kCorrupt, "{}: the pattern ends in a lone backslash", where_);
      default:
        if (!is_alphanumeric(c)) return copy(2);
    }
    refuse(fmt::format("\\{}", c));
  }

  // \p{...} or \x{...}, up to and with its closing brace.
  void copy_braced() {
    const size_t end = rest().find('}');
    if (end == rest().npos) refuse("an open brace");
    copy(end + 1);
  }

  void char_class() {
    const size_t opened = pos_;
    copy(peek(1) == '^' ? 2 : 1);
    if (peek(0) == ']') refuse("a class that begins with ]");
    while (pos_ < in_.size() && in_[pos_] != ']') {
      if (in_[pos_] == '\\')
        escape(/*in_class=*/true);
      else if (in_[pos_] == '[')
        refuse("a class inside a class");
      else if (in_[pos_] == '&' && peek(1) == '&')
        refuse("&&");
      else
        copy(1);
    }
    if (pos_ == in_.size()) fail(ErrorCode::kCorrupt, "{}: the class opened at byte {} is not closed", where_, opened);
    copy(1);
  }

  void group() {
    if (peek(1) == '*') refuse("(*");
    if (peek(1) != '?') return copy(1);
    for (const std::string_view known : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?i)"})
      if (rest().starts_with(known)) return copy(known.size());
    refuse("a (? group other than (?: (?= (?! (?<= (?<! (?> (?i: (?i)");
  }

  const std::string& in_;
  const std::string& where_;
  size_t pos_ = 0;
  std::string out_;
};

// `X+$` for one class X: a search would start anew at each of n characters of a long run that does not reach the end,
// n * n steps. Matches can only begin where a run begins, so say so.
std::string anchor_trailing_run(std::string pattern) {
  constexpr std::string_view kEnd = "+$";
  if (!pattern.ends_with(kEnd)) return pattern;
  const std::string atom = pattern.substr(0, pattern.size() - kEnd.size());
  const bool is_class = atom.size() > 2 && atom[0] == '[' && atom.find(']') == atom.size() - 1;
  if (!is_class) return pattern;
  return fmt::format("(?<!{}){}++$", atom, atom);
}

}  // namespace

std::string translate_pattern(const std::string& pattern, const std::string& where) {
  if (!is_valid_utf8(pattern)) fail(ErrorCode::kCorrupt, "{}: the pattern is not valid UTF-8", where);
  return anchor_trailing_run(Translator(pattern, where).run());
}

}  // namespace vl2

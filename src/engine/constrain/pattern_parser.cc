#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/text/utf8.h"
#include "engine/constrain/pattern.h"

namespace vl2 {
namespace {

constexpr int kMostGroups = 64;  // within each other
constexpr int kMostRepeats = 100'000;

const CodePointSet& digits() {
  static const CodePointSet set = {{'0', '9'}};
  return set;
}
const CodePointSet& word() {
  static const CodePointSet set = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
  return set;
}
const CodePointSet& space() {
  static const CodePointSet set = {{'\t', '\r'}, {' ', ' '}};
  return set;
}

class Parser {
 public:
  Parser(std::string_view text, std::string what) : text_(text), what_(std::move(what)) {}

  Pattern parse() {
    if (text_.size() > kLongestPattern)
      fail(ErrorCode::kInvalidArgument, "{} has {} bytes, at most {} are possible", what_, text_.size(),
           kLongestPattern);
    if (!is_valid_utf8(text_)) fail(ErrorCode::kInvalidArgument, "{} is not UTF-8", what_);
    pattern_.root = choice(0);
    if (at_ < text_.size()) reject("an unmatched ')'");
    return std::move(pattern_);
  }

 private:
  using Node = Pattern::Node;
  using Kind = Pattern::Kind;

  [[noreturn]] void reject(const std::string& why) const {
    fail(ErrorCode::kInvalidArgument, "{}: {} at byte {} of \"{}\"", what_, why, at_,
         text_.size() <= 80 ? text_ : text_.substr(0, 77));
  }
  [[noreturn]] void unsupported(const std::string& construct) const {
    reject(construct + " is not supported in constraints; rewrite it without,");
  }

  bool done() const { return at_ == text_.size(); }
  char peek() const { return done() ? '\0' : text_[at_]; }
  bool take(char c) {
    if (done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  char32_t take_character() {
    const char32_t c = utf8_code_point(text_, at_);
    at_ += utf8_length(text_, at_);
    return c;
  }
  size_t add(Node node) {
    pattern_.nodes.push_back(std::move(node));
    return pattern_.nodes.size() - 1;
  }
  size_t add_set(CodePointSet set) {
    Node node;
    node.kind = Kind::kSet;
    node.set = std::move(set);
    return add(std::move(node));
  }

  size_t choice(int depth) {
    if (depth > kMostGroups) reject(fmt::format("groups within groups, more than {} deep,", kMostGroups));
    Node node;
    node.kind = Kind::kChoice;
    do {
      node.parts.push_back(sequence(depth));
    } while (take('|'));
    return add(std::move(node));
  }

  size_t sequence(int depth) {
    Node node;
    node.kind = Kind::kSequence;
    if (peek() == '^') {
      if (depth > 0) unsupported("\"^\" within a group");
      ++at_;
      node.from_start = true;
    }
    while (!done() && peek() != '|' && peek() != ')') {
      if (peek() == '$') {
        const char next = at_ + 1 < text_.size() ? text_[at_ + 1] : '|';
        if (depth > 0 || next != '|') unsupported("\"$\" before the end");
        ++at_;
        node.to_end = true;
        break;
      }
      node.parts.push_back(repeated(depth));
    }
    return add(std::move(node));
  }

  size_t repeated(int depth) {
    size_t part = atom(depth);
    while (true) {
      Node node;
      node.kind = Kind::kRepeat;
      if (take('*')) {
        node.most = Pattern::kNoLimit;
      } else if (take('+')) {
        node.least = 1;
        node.most = Pattern::kNoLimit;
      } else if (take('?')) {
        node.most = 1;
      } else if (peek() == '{') {
        counts(node);
      } else {
        return part;
      }
      if (peek() == '+') unsupported("a possessive quantifier");
      take('?');  // lazy: the same texts
      if (!done() && (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{'))
        reject("a quantifier of a quantifier");
      node.parts = {part};
      part = add(std::move(node));
    }
  }

  void counts(Node& node) {
    take('{');
    node.least = number();
    node.most = node.least;
    if (take(',')) node.most = peek() == '}' ? Pattern::kNoLimit : number();
    if (!take('}')) reject("a '{' that is no \"{n}\", \"{n,}\" or \"{n,m}\" (write \\{ for the character)");
    if (node.most != Pattern::kNoLimit && node.most < node.least)
      reject("a repeat count whose end is below its beginning");
  }

  int number() {
    int value = 0;
    const size_t begin = at_;
    for (; !done() && peek() >= '0' && peek() <= '9'; ++at_) {
      value = value * 10 + (peek() - '0');
      if (value > kMostRepeats) reject(fmt::format("a repeat count of more than {}", kMostRepeats));
    }
    if (at_ == begin) reject("a '{' that is no \"{n}\", \"{n,}\" or \"{n,m}\" (write \\{ for the character)");
    return value;
  }

  size_t atom(int depth) {
    switch (peek()) {
      case '(': {
        ++at_;
        if (take('?') && !take(':')) {
          --at_;
          unsupported("a group that begins with \"(?\" and is no \"(?:\"");
        }
        const size_t inside = choice(depth + 1);
        if (!take(')')) reject("a group that is never closed");
        return inside;
      }
      case '[':
        return add_set(bracket());
      case '.':
        ++at_;
        return add_set(complement({{'\n', '\n'}, {'\r', '\r'}}));
      case '\\':
        return add_set(escape(false));
      case '*':
      case '+':
      case '?':
      case '{':
        reject("a quantifier of nothing");
      case '^':
        unsupported("\"^\" behind the beginning");
      default: {
        const char32_t c = take_character();
        return add_set({{c, c}});
      }
    }
  }

  CodePointSet escape(bool in_bracket) {
    ++at_;
    if (done()) reject("a backslash at the end");
    const char c = text_[at_];
    const auto one = [](char32_t p) { return CodePointSet{{p, p}}; };
    ++at_;
    switch (c) {
      case 'd':
        return digits();
      case 'w':
        return word();
      case 's':
        return space();
      case 'D':
        return complement(digits());
      case 'W':
        return complement(word());
      case 'S':
        return complement(space());
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case '0':
        if (peek() >= '0' && peek() <= '9') unsupported("an octal escape");
        return one(0);
      case 'x':
        return one(hex(2));
      case 'u':
        return one(hex(4));
      default:
        break;
    }
    --at_;
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter) unsupported(fmt::format("\"\\{}\"{}", c, in_bracket ? " in a class" : ""));
    return one(take_character());
  }

  char32_t hex(int count) {
    char32_t value = 0;
    for (int i = 0; i < count; ++i, ++at_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) reject(fmt::format("an escape that needs {} hexadecimal digits", count));
      value = value * 16 + static_cast<char32_t>(digit);
    }
    if (value >= 0xd800 && value <= 0xdfff) unsupported("half of a surrogate pair");
    return value;
  }

  CodePointSet bracket() {
    ++at_;
    const bool negated = take('^');
    CodePointSet set;
    while (!take(']')) {
      if (done()) reject("a class that is never closed");
      const CodePointSet low = bracket_item();
      if (peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        const CodePointSet high = bracket_item();
        if (low.size() != 1 || high.size() != 1 || low[0].low != low[0].high || high[0].low != high[0].high)
          reject("a range whose ends are no characters");
        if (low[0].low > high[0].low) reject("a range whose end is before its beginning");
        set.push_back({low[0].low, high[0].low});
      } else {
        set.insert(set.end(), low.begin(), low.end());
      }
    }
    return negated ? complement(set) : normalised(std::move(set));
  }

  CodePointSet bracket_item() {
    if (peek() == '[' && at_ + 1 < text_.size() && (text_[at_ + 1] == ':' || text_[at_ + 1] == '.'))
      unsupported("a POSIX class");
    if (peek() == '\\') return escape(true);
    const char32_t c = take_character();
    return {{c, c}};
  }

  std::string_view text_;
  std::string what_;
  size_t at_ = 0;
  Pattern pattern_;
};

}  // namespace

Pattern parse_pattern(std::string_view text, const std::string& what) { return Parser(text, what).parse(); }

}  // namespace vl2

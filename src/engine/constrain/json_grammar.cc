#include "engine/constrain/json_grammar.h"

#include <algorithm>

#include "core/base/error.h"
#include "engine/constrain/code_points.h"

namespace vl2 {
namespace {

constexpr int kMostIntegerDigits = 16;
constexpr int kMostDecimals = 16;
constexpr int kMostTabs = 16;

}  // namespace

JsonGrammar::RuleId JsonGrammar::gap_rule() {
  if (gap_) return *gap_;
  const RuleId rule = builder_.add_rule("white space");
  const StateId start = builder_.start(rule), end = builder_.final(rule);
  builder_.epsilon(start, end);
  builder_.range(start, ' ', ' ', end);
  const StateId line = builder_.literal(start, "\n");
  builder_.epsilon(line, end);
  StateId at = line;
  for (int i = 0; i < kMostIndent; ++i) builder_.epsilon(at = builder_.literal(at, " "), end);
  at = line;
  for (int i = 0; i < kMostTabs; ++i) builder_.epsilon(at = builder_.literal(at, "\t"), end);
  gap_ = rule;
  return rule;
}

void JsonGrammar::gap(StateId from, StateId to) { builder_.call(from, gap_rule(), to); }

JsonGrammar::StateId JsonGrammar::gap(StateId from) {
  const StateId to = builder_.state();
  gap(from, to);
  return to;
}

JsonGrammar::StateId JsonGrammar::colon(StateId from) {
  const StateId to = builder_.literal(from, ":");
  builder_.range(to, ' ', ' ', from = builder_.state());
  builder_.epsilon(to, from);
  return from;
}

// One character of a string: as it is, or escaped. Halves of surrogate pairs only together.
void JsonGrammar::add_character(StateId from, StateId to) {
  add_code_points(builder_, from, to, {{' ', '!'}, {'#', '['}, {']', kLastCodePoint}}, Spelling::kPlain);
  const StateId escape = builder_.literal(from, "\\");
  for (const char c : std::string_view("\"\\/bfnrt"))
    builder_.range(escape, static_cast<uint8_t>(c), static_cast<uint8_t>(c), to);
  const StateId u = builder_.literal(escape, "u");
  const auto hex = [&](StateId begin, std::string_view which, StateId end) {
    for (const char c : which) builder_.range(begin, static_cast<uint8_t>(c), static_cast<uint8_t>(c), end);
  };
  const auto any_hex = [&](StateId begin, int count, StateId end) {
    for (; count > 0; --count) {
      const StateId next = count == 1 ? end : builder_.state();
      builder_.range(begin, '0', '9', next);
      builder_.range(begin, 'a', 'f', next);
      builder_.range(begin, 'A', 'F', next);
      begin = next;
    }
  };
  const StateId plain = builder_.state(), d = builder_.state(), rest = builder_.state(), pair = builder_.state();
  builder_.range(u, '0', '9', plain);
  hex(u, "abcefABCEF", plain);
  any_hex(plain, 3, to);
  hex(u, "dD", d);
  hex(d, "01234567", rest);
  any_hex(rest, 2, to);
  hex(d, "89abAB", pair);
  const StateId second = builder_.state(), low = builder_.state(), last = builder_.state();
  any_hex(pair, 2, second);
  hex(builder_.literal(second, "\\u"), "dD", low);
  hex(low, "cdefCDEF", last);
  any_hex(last, 2, to);
}

JsonGrammar::RuleId JsonGrammar::character_rule() {
  if (character_) return *character_;
  const RuleId rule = builder_.add_rule("a character");
  add_character(builder_.start(rule), builder_.final(rule));
  character_ = rule;
  return rule;
}

void JsonGrammar::string(StateId from, StateId to, int64_t least, std::optional<int64_t> most) {
  const int64_t calls = most.value_or(least);
  if (calls > static_cast<int64_t>(GrammarBuilder::kMostStates))
    builder_.reject_size("states", static_cast<size_t>(calls), GrammarBuilder::kMostStates);
  StateId at = builder_.literal(from, "\"");
  const auto next = [&] {
    const StateId after = builder_.state();
    builder_.call(at, character_rule(), after);
    at = after;
  };
  for (int64_t i = 0; i < least; ++i) next();
  if (most) {
    for (int64_t i = least; i < *most; ++i) {
      builder_.range(at, '"', '"', to);
      next();
    }
  } else {
    const StateId loop = builder_.state();
    builder_.epsilon(at, loop);
    add_character(loop, loop);
    at = loop;
  }
  builder_.range(at, '"', '"', to);
}

void JsonGrammar::key_besides(StateId from, StateId to, const std::vector<std::string>& taken) {
  const auto any_of_ascii = [&](StateId begin, std::string_view besides, StateId end) {
    for (int c = ' '; c <= '~'; ++c)
      if (c != '"' && c != '\\' && besides.find(static_cast<char>(c)) == besides.npos)
        builder_.range(begin, static_cast<uint8_t>(c), static_cast<uint8_t>(c), end);
  };
  const StateId other = builder_.state();  // already different from all
  any_of_ascii(other, "", other);
  builder_.range(other, '"', '"', to);
  // A tree of the taken keys: wherever it is left, the key differs.
  struct Branch {
    StateId state;
    size_t begin, end, depth;  // of the sorted keys
  };
  std::vector<std::string> keys = taken;
  std::sort(keys.begin(), keys.end());
  std::vector<Branch> open = {{builder_.literal(from, "\""), 0, keys.size(), 0}};
  while (!open.empty()) {
    Branch b = open.back();
    open.pop_back();
    bool ends = false;
    for (; b.begin < b.end && keys[b.begin].size() == b.depth; ++b.begin) ends = true;
    if (!ends) builder_.range(b.state, '"', '"', to);
    std::string seen;
    while (b.begin < b.end) {
      const char c = keys[b.begin][b.depth];
      size_t end = b.begin;
      while (end < b.end && keys[end][b.depth] == c) ++end;
      seen += c;
      if (c >= ' ' && c <= '~' && c != '"' && c != '\\')
        open.push_back({builder_.literal(b.state, std::string_view(&c, 1)), b.begin, end, b.depth + 1});
      b.begin = end;
    }
    any_of_ascii(b.state, seen, other);
  }
}

// One to `most` digits.
JsonGrammar::StateId JsonGrammar::digits(StateId from, int most) {
  const StateId end = builder_.state();
  for (int i = 0; i < most; ++i) {
    const StateId next = builder_.state();
    builder_.range(from, '0', '9', next);
    builder_.epsilon(next, end);
    from = next;
  }
  return end;
}

void JsonGrammar::number(StateId from, StateId to) {
  const StateId sign = builder_.state(), whole = builder_.state(), point = builder_.state(), e = builder_.state();
  builder_.epsilon(from, sign);
  builder_.range(from, '-', '-', sign);
  builder_.range(sign, '0', '0', whole);
  const StateId first = builder_.state();
  builder_.range(sign, '1', '9', first);
  builder_.epsilon(first, whole);
  builder_.epsilon(digits(first, kMostIntegerDigits - 1), whole);
  builder_.epsilon(whole, point);
  builder_.epsilon(digits(builder_.literal(whole, "."), kMostDecimals), point);
  builder_.epsilon(point, to);
  builder_.range(point, 'e', 'e', e);
  builder_.range(point, 'E', 'E', e);
  const StateId exponent = builder_.state();
  builder_.epsilon(e, exponent);
  builder_.range(e, '+', '+', exponent);
  builder_.range(e, '-', '-', exponent);
  builder_.epsilon(digits(exponent, 2), to);
}

void JsonGrammar::any_object(StateId from, StateId to) {
  const StateId key = builder_.state(), open = gap(builder_.literal(from, "{")), value_end = builder_.state();
  builder_.epsilon(open, key);
  const StateId key_end = builder_.state();
  string(key, key_end);
  builder_.call(colon(key_end), any_value(), value_end);
  gap(builder_.literal(value_end, ","), key);
  const StateId close = builder_.state();
  builder_.epsilon(open, close);
  gap(value_end, close);
  builder_.range(close, '}', '}', to);
}

void JsonGrammar::any_array(StateId from, StateId to) { array(from, to, {}, any_value(), 0, std::nullopt); }

JsonGrammar::RuleId JsonGrammar::any_value() {
  if (any_) return *any_;
  any_ = builder_.add_rule("any value");
  const StateId start = builder_.start(*any_), end = builder_.final(*any_);
  any_object(start, end);
  any_array(start, end);
  string(start, end);
  number(start, end);
  boolean(start, end);
  null(start, end);
  return *any_;
}

void JsonGrammar::array(StateId from, StateId to, const std::vector<RuleId>& front, std::optional<RuleId> item,
                        int64_t least, std::optional<int64_t> most) {
  const auto num_front = static_cast<int64_t>(front.size());
  if (!item) most = std::min(most.value_or(num_front), num_front);
  const int64_t counted = std::max(most.value_or(num_front), least);
  if (counted > static_cast<int64_t>(GrammarBuilder::kMostStates))
    builder_.reject_size("states", static_cast<size_t>(counted), GrammarBuilder::kMostStates);
  if (most && *most < least) return;  // nothing fits
  const StateId close = builder_.state();
  builder_.range(close, ']', ']', to);
  const StateId open = gap(builder_.literal(from, "["));
  if (least <= 0) builder_.epsilon(open, close);
  StateId at = builder_.state();  // where the next item begins
  builder_.epsilon(open, at);
  for (int64_t i = 0; i < counted; ++i) {
    const StateId after = builder_.state();
    builder_.call(at, i < num_front ? front[static_cast<size_t>(i)] : *item, after);
    if (i + 1 >= least) gap(after, close);
    if (i + 1 == counted && most) return;
    at = builder_.state();
    gap(builder_.literal(after, ","), at);
  }
  if (most) return;
  const StateId after = builder_.state();
  builder_.call(at, *item, after);
  if (counted + 1 >= least) gap(after, close);
  gap(builder_.literal(after, ","), at);
}

}  // namespace vl2

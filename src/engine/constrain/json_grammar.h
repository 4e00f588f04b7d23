// The parts JSON is written with, as rules of a grammar: white space, strings, numbers, any value.
//
// All that is written is valid JSON, and valid UTF-8. White space is what models write: none or one space, or a line
// break with what indents the next line. Numbers are finite in double precision: at most 16 digits before the point and
// 16 behind it, and an exponent of at most two.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/constrain/grammar.h"

namespace vl2 {

class JsonGrammar {
 public:
  using StateId = GrammarBuilder::StateId;
  using RuleId = GrammarBuilder::RuleId;

  static constexpr int kMostIndent = 64;  // spaces in front of a line

  // Borrows the builder, which has its first rule already.
  explicit JsonGrammar(GrammarBuilder& builder) : builder_(builder) {}

  void gap(StateId from, StateId to);  // between an object's or array's parts
  StateId gap(StateId from);
  StateId colon(StateId from);  // behind a key; a space may follow

  // With its quotes. `most` empty: no limit.
  void string(StateId from, StateId to, int64_t least = 0, std::optional<int64_t> most = std::nullopt);
  // A key that is none of `taken`, in plain ASCII.
  void key_besides(StateId from, StateId to, const std::vector<std::string>& taken);
  void number(StateId from, StateId to);
  void boolean(StateId from, StateId to) { builder_.one_of(from, {"true", "false"}, to); }
  void null(StateId from, StateId to) { builder_.one_of(from, {"null"}, to); }
  void any_object(StateId from, StateId to);
  void any_array(StateId from, StateId to);
  RuleId any_value();

  // Calls of `item`, separated by commas, in brackets; `front`: the first ones, each of its own kind and all there as
  // soon as something stands behind them. Without an item there is nothing behind them.
  void array(StateId from, StateId to, const std::vector<RuleId>& front, std::optional<RuleId> item, int64_t least,
             std::optional<int64_t> most);

 private:
  RuleId gap_rule();
  RuleId character_rule();
  void add_character(StateId from, StateId to);
  StateId digits(StateId from, int most);

  GrammarBuilder& builder_;
  std::optional<RuleId> gap_, character_, any_;
};

// Decimal numbers from low to high, both in units of the last of `decimals` (0 to 9) digits behind the point, all
// exact. No exponent; trailing zeros may be left out, the point as well. Without decimals: integers. -0 is not among
// them.
void add_decimals(GrammarBuilder& builder, GrammarBuilder::StateId from, GrammarBuilder::StateId to, int64_t low,
                  int64_t high, int decimals);

}  // namespace vl2

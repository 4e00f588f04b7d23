// A language of bytes as a nondeterministic machine whose rules may call each other: what regular expressions, lists of
// choices and JSON schemas are compiled to.
//
// A Grammar is immutable and shared; a GrammarBuilder belongs to one thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vl2 {

struct Grammar {
  // Calls within calls, at most. What could only end beyond is never begun.
  static constexpr int kMaxDepth = 64;
  static constexpr uint16_t kNoEnd = 0xffff;

  struct Range {
    uint8_t low, high;
    uint32_t to;
  };
  struct Call {
    uint32_t rule, to;
  };
  struct State {
    std::vector<Range> ranges;
    std::vector<uint32_t> epsilons;
    std::vector<Call> calls;
    // The least depth of calls with which the rule can end from here; kNoEnd: it cannot.
    uint16_t height = kNoEnd;
    bool final = false;   // of its rule
    bool leaves = false;  // final, and nothing else to do
  };
  struct Rule {
    uint32_t start = 0, final = 0;
    std::string name;  // for errors
  };

  std::vector<State> states;
  std::vector<Rule> rules;  // the first is the text
};

class GrammarBuilder {
 public:
  using StateId = uint32_t;
  using RuleId = uint32_t;
  static constexpr size_t kMostStates = 200'000;
  static constexpr size_t kMostEdges = 1'000'000;

  // `what` names the definition in errors: "the JSON schema". Beyond the limits above, every function that adds
  // something throws kInvalidArgument with the numbers.
  explicit GrammarBuilder(std::string what) : what_(std::move(what)) {}

  RuleId add_rule(std::string name);
  StateId start(RuleId rule) const { return grammar_.rules[rule].start; }
  StateId final(RuleId rule) const { return grammar_.rules[rule].final; }
  size_t num_rules() const { return grammar_.rules.size(); }

  StateId state();
  void range(StateId from, uint8_t low, uint8_t high, StateId to);
  void epsilon(StateId from, StateId to);
  void call(StateId from, RuleId rule, StateId to);
  StateId literal(StateId from, std::string_view bytes);  // where it ends
  // Any of the texts: a tree, so that what begins alike is one way.
  void one_of(StateId from, std::vector<std::string> texts, StateId to);

  // Leaves out bytes that are not `available` and finds the heights. kInvalidArgument: a rule calls itself before it
  // has read anything, or no text of any length fits.
  Grammar finish(const std::array<bool, 256>& available);

  [[noreturn]] void reject_size(std::string_view unit, size_t count, size_t most) const;

 private:
  void count_edge();
  void check_progress() const;
  void find_heights();

  std::string what_;
  Grammar grammar_;
  size_t edges_ = 0;
};

}  // namespace vl2

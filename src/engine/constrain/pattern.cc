#include "engine/constrain/pattern.h"

#include <algorithm>

#include "core/base/error.h"

namespace vl2 {
namespace {

using StateId = GrammarBuilder::StateId;

// How many states a part becomes, before any of them is made.
double estimate(const Pattern& pattern, size_t index) {
  const Pattern::Node& node = pattern.nodes[index];
  double states = node.kind == Pattern::Kind::kSet ? 1 : 2;
  for (const size_t part : node.parts) states += estimate(pattern, part);
  if (node.kind == Pattern::Kind::kRepeat) states *= std::max({1, node.least, node.most});
  return states;
}

class Writer {
 public:
  Writer(GrammarBuilder& builder, const Pattern& pattern, Spelling spelling)
      : builder_(builder), pattern_(pattern), spelling_(spelling) {}

  void add(StateId from, size_t index, StateId to) {
    const Pattern::Node& node = pattern_.nodes[index];
    switch (node.kind) {
      case Pattern::Kind::kEmpty:
        return builder_.epsilon(from, to);
      case Pattern::Kind::kSet:
        return add_code_points(builder_, from, to, node.set, spelling_);
      case Pattern::Kind::kSequence:
        for (const size_t part : node.parts) from = add(from, part);
        return builder_.epsilon(from, to);
      case Pattern::Kind::kChoice:
        for (const size_t part : node.parts) add(from, part, to);
        return;
      case Pattern::Kind::kRepeat:
        return repeat(from, node, to);
    }
  }

  void anything(StateId from, StateId to) {
    const StateId loop = builder_.state();
    builder_.epsilon(from, loop);
    add_code_points(builder_, loop, loop, {{0, kLastCodePoint}}, spelling_);
    builder_.epsilon(loop, to);
  }

 private:
  StateId add(StateId from, size_t index) {
    const StateId to = builder_.state();
    add(from, index, to);
    return to;
  }

  void repeat(StateId from, const Pattern::Node& node, StateId to) {
    const size_t part = node.parts.front();
    for (int i = 0; i < node.least; ++i) from = add(from, part);
    if (node.most == Pattern::kNoLimit) {
      const StateId loop = builder_.state();
      builder_.epsilon(from, loop);
      add(loop, part, loop);
      return builder_.epsilon(loop, to);
    }
    for (int i = node.least; i < node.most; ++i) {
      builder_.epsilon(from, to);
      from = add(from, part);
    }
    builder_.epsilon(from, to);
  }

  GrammarBuilder& builder_;
  const Pattern& pattern_;
  Spelling spelling_;
};

}  // namespace

void add_pattern(GrammarBuilder& builder, StateId from, StateId to, const Pattern& pattern, Matching matching,
                 Spelling spelling) {
  const double states = estimate(pattern, pattern.root);
  if (states > static_cast<double>(GrammarBuilder::kMostStates))
    builder.reject_size("states", static_cast<size_t>(std::min(states, 1e18)), GrammarBuilder::kMostStates);
  Writer writer(builder, pattern, spelling);
  for (const size_t part : pattern.nodes[pattern.root].parts) {
    const Pattern::Node& alternative = pattern.nodes[part];
    const StateId begin = builder.state(), end = builder.state();
    if (matching == Matching::kAnywhere && !alternative.from_start) {
      writer.anything(from, begin);
    } else {
      builder.epsilon(from, begin);
    }
    writer.add(begin, part, end);
    if (matching == Matching::kAnywhere && !alternative.to_end) {
      writer.anything(end, to);
    } else {
      builder.epsilon(end, to);
    }
  }
}

}  // namespace vl2

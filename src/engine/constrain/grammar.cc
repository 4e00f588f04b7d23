#include "engine/constrain/grammar.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"

namespace vl2 {
namespace {

// Calls fn with every state a rule can be in before it has read a byte; `seen` holds the number of the last such walk
// that met a state. Calls of nullable rules are walked past, others not.
template <typename Fn>
void walk_front(const Grammar& g, uint32_t rule, const std::vector<char>& nullable, std::vector<uint32_t>& seen,
                uint32_t walk, const Fn& fn) {
  std::vector<uint32_t> open;
  const auto visit = [&](uint32_t to) {
    if (seen[to] == walk) return;
    seen[to] = walk;
    open.push_back(to);
  };
  visit(g.rules[rule].start);
  while (!open.empty()) {
    const Grammar::State& s = g.states[open.back()];
    open.pop_back();
    fn(s);
    for (const uint32_t to : s.epsilons) visit(to);
    for (const Grammar::Call& c : s.calls)
      if (nullable[c.rule]) visit(c.to);
  }
}

// Rules that can read nothing at all.
std::vector<char> nullable_rules(const Grammar& g) {
  std::vector<char> nullable(g.rules.size(), 0);
  std::vector<uint32_t> seen(g.states.size(), 0);
  uint32_t walk = 0;
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t r = 0; r < g.rules.size(); ++r) {
      if (nullable[r]) continue;
      walk_front(g, r, nullable, seen, ++walk, [&](const Grammar::State& s) { nullable[r] |= s.final ? 1 : 0; });
      changed = changed || nullable[r];
    }
  }
  return nullable;
}

}  // namespace

void GrammarBuilder::reject_size(std::string_view unit, size_t count, size_t most) const {
  fail(ErrorCode::kInvalidArgument, "{} is too large: it needs {} {}, at most {} are possible; make it smaller", what_,
       count, unit, most);
}

GrammarBuilder::StateId GrammarBuilder::state() {
  if (grammar_.states.size() >= kMostStates) reject_size("states or more", kMostStates + 1, kMostStates);
  grammar_.states.emplace_back();
  return static_cast<StateId>(grammar_.states.size() - 1);
}

void GrammarBuilder::count_edge() {
  if (++edges_ > kMostEdges) reject_size("edges or more", edges_, kMostEdges);
}

GrammarBuilder::RuleId GrammarBuilder::add_rule(std::string name) {
  const StateId start = state(), final = state();
  grammar_.states[final].final = true;
  grammar_.rules.push_back({start, final, std::move(name)});
  return static_cast<RuleId>(grammar_.rules.size() - 1);
}

void GrammarBuilder::range(StateId from, uint8_t low, uint8_t high, StateId to) {
  count_edge();
  grammar_.states[from].ranges.push_back({low, high, to});
}

void GrammarBuilder::epsilon(StateId from, StateId to) {
  count_edge();
  grammar_.states[from].epsilons.push_back(to);
}

void GrammarBuilder::call(StateId from, RuleId rule, StateId to) {
  count_edge();
  grammar_.states[from].calls.push_back({rule, to});
}

GrammarBuilder::StateId GrammarBuilder::literal(StateId from, std::string_view bytes) {
  for (const char c : bytes) {
    const StateId to = state();
    range(from, static_cast<uint8_t>(c), static_cast<uint8_t>(c), to);
    from = to;
  }
  return from;
}

void GrammarBuilder::one_of(StateId from, std::vector<std::string> texts, StateId to) {
  std::sort(texts.begin(), texts.end());
  std::vector<StateId> path = {from};  // after each byte of the text before
  std::string_view before;
  for (const std::string& text : texts) {
    const auto shared = static_cast<size_t>(
        std::mismatch(before.begin(), before.end(), text.begin(), text.end()).first - before.begin());
    path.resize(shared + 1);
    for (size_t i = shared; i < text.size(); ++i)
      path.push_back(literal(path.back(), std::string_view(text).substr(i, 1)));
    epsilon(path.back(), to);
    before = text;
  }
}

// Depth-first over what a rule can call before it has read a byte; a rule met again on the way calls itself.
void GrammarBuilder::check_progress() const {
  const Grammar& g = grammar_;
  const std::vector<char> nullable = nullable_rules(g);
  std::vector<std::vector<uint32_t>> first(g.rules.size());  // rules called at the front
  std::vector<uint32_t> seen(g.states.size(), 0);
  for (uint32_t r = 0; r < g.rules.size(); ++r)
    walk_front(g, r, nullable, seen, r + 1, [&](const Grammar::State& s) {
      for (const Grammar::Call& c : s.calls) first[r].push_back(c.rule);
    });
  enum : char { kNew, kOpen, kDone };
  std::vector<char> mark(g.rules.size(), kNew);
  struct Visit {
    uint32_t rule;
    size_t next;
  };
  for (uint32_t root = 0; root < g.rules.size(); ++root) {
    if (mark[root] != kNew) continue;
    std::vector<Visit> path = {{root, 0}};
    mark[root] = kOpen;
    while (!path.empty()) {
      Visit& top = path.back();
      if (top.next == first[top.rule].size()) {
        mark[top.rule] = kDone;
        path.pop_back();
        continue;
      }
      const uint32_t called = first[top.rule][top.next++];
      if (mark[called] == kOpen)
        fail(ErrorCode::kInvalidArgument,
             "{}: {} refers to itself without anything in between; no text can follow that", what_,
             g.rules[called].name);
      if (mark[called] == kDone) continue;
      mark[called] = kOpen;
      path.push_back({called, 0});
    }
  }
}

// Backwards from the final states, by depth: everything of one depth before what needs one more.
void GrammarBuilder::find_heights() {
  Grammar& g = grammar_;
  struct Site {
    uint32_t from, rule, to;
  };
  std::vector<std::vector<uint32_t>> before(g.states.size());
  std::vector<Site> sites;
  std::vector<std::vector<uint32_t>> sites_of_state(g.states.size());  // that wait for a state: `to` or a rule's start
  for (uint32_t s = 0; s < g.states.size(); ++s) {
    for (const Grammar::Range& r : g.states[s].ranges) before[r.to].push_back(s);
    for (const uint32_t to : g.states[s].epsilons) before[to].push_back(s);
    for (const Grammar::Call& c : g.states[s].calls) {
      sites_of_state[c.to].push_back(static_cast<uint32_t>(sites.size()));
      sites_of_state[g.rules[c.rule].start].push_back(static_cast<uint32_t>(sites.size()));
      sites.push_back({s, c.rule, c.to});
    }
  }
  std::vector<std::vector<uint32_t>> waiting(Grammar::kMaxDepth + 1);
  for (const Grammar::Rule& rule : g.rules) waiting[0].push_back(rule.final);
  for (uint16_t height = 0; height <= Grammar::kMaxDepth; ++height) {
    std::vector<uint32_t>& open = waiting[height];
    while (!open.empty()) {
      const uint32_t s = open.back();
      open.pop_back();
      if (g.states[s].height != Grammar::kNoEnd) continue;
      g.states[s].height = height;
      for (const uint32_t from : before[s])
        if (g.states[from].height == Grammar::kNoEnd) open.push_back(from);
      for (const uint32_t i : sites_of_state[s]) {
        const Site& site = sites[i];
        const uint16_t inside = g.states[g.rules[site.rule].start].height, after = g.states[site.to].height;
        if (inside == Grammar::kNoEnd || after == Grammar::kNoEnd) continue;
        const int needed = std::max(inside + 1, static_cast<int>(after));
        if (needed <= Grammar::kMaxDepth) waiting[static_cast<size_t>(needed)].push_back(site.from);
      }
    }
  }
}

Grammar GrammarBuilder::finish(const std::array<bool, 256>& available) {
  const bool all = std::all_of(available.begin(), available.end(), [](bool b) { return b; });
  for (Grammar::State& s : grammar_.states) {
    if (all) break;
    std::vector<Grammar::Range> kept;
    for (const Grammar::Range& r : s.ranges)
      for (int b = r.low; b <= r.high; ++b) {
        if (!available[static_cast<size_t>(b)]) continue;
        const auto byte = static_cast<uint8_t>(b);
        if (!kept.empty() && kept.back().to == r.to && kept.back().high + 1 == b) {
          kept.back().high = byte;
        } else {
          kept.push_back({byte, byte, r.to});
        }
      }
    s.ranges = std::move(kept);
  }
  check_progress();
  find_heights();
  if (grammar_.states[grammar_.rules.front().start].height == Grammar::kNoEnd)
    fail(ErrorCode::kInvalidArgument,
         "{} fits no text: its parts contradict each other, never end, or need to be nested more than {} levels deep",
         what_, Grammar::kMaxDepth);
  for (Grammar::State& s : grammar_.states) {
    std::erase_if(s.ranges, [&](const auto& r) { return grammar_.states[r.to].height == Grammar::kNoEnd; });
    std::erase_if(s.epsilons, [&](uint32_t to) { return grammar_.states[to].height == Grammar::kNoEnd; });
    std::erase_if(s.calls, [&](const Grammar::Call& c) {
      return grammar_.states[c.to].height == Grammar::kNoEnd ||
             grammar_.states[grammar_.rules[c.rule].start].height == Grammar::kNoEnd;
    });
    s.leaves = s.final && s.ranges.empty() && s.epsilons.empty() && s.calls.empty();
  }
  return std::move(grammar_);
}

}  // namespace vl2

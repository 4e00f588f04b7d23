#include "engine/constrain/grammar_machine.h"

#include <utility>

#include "core/base/error.h"

namespace vl2 {
namespace {

Machine::Symbols symbols_of(const Grammar& grammar) {
  std::array<bool, 257> begins{};  // a class
  begins[0] = true;
  for (const Grammar::State& s : grammar.states)
    for (const Grammar::Range& r : s.ranges) begins[r.low] = begins[r.high + 1u] = true;
  Machine::Symbols symbols;
  for (size_t b = 0; b < 256; ++b) {
    if (begins[b]) symbols.bytes.push_back(static_cast<uint8_t>(b));
    symbols.class_of[b] = static_cast<uint8_t>(symbols.bytes.size() - 1);
  }
  return symbols;
}

}  // namespace

GrammarMachine::GrammarMachine(std::shared_ptr<const Grammar> grammar)
    : grammar_(std::move(grammar)), symbols_(symbols_of(*grammar_)), seen_(grammar_->states.size()) {
  frames_.push_back({0, 0, 0});  // kNoStack
}

std::unique_ptr<Machine> GrammarMachine::fresh() const { return std::make_unique<GrammarMachine>(grammar_); }

size_t GrammarMachine::memory() const {
  return frames_.size() * (sizeof(Frame) + 48) + seen_.size() * sizeof(Seen);  // 48: a node of the map
}

uint32_t GrammarMachine::push(uint32_t returns_to, uint32_t below) {
  const auto [at, is_new] = frame_of_.try_emplace(config(returns_to, below), static_cast<uint32_t>(frames_.size()));
  if (is_new) frames_.push_back({returns_to, below, frames_[below].depth + 1});
  return at->second;
}

void GrammarMachine::visit(uint32_t state, uint32_t stack) {
  // What could end only beyond the greatest depth is never begun, so there is always a way on.
  if (frames_[stack].depth + grammar_->states[state].height > Grammar::kMaxDepth) return;
  Seen& seen = seen_[state];
  if (seen.walk == walk_ && seen.stack == stack) return;
  seen = {walk_, stack};
  open_.push_back(config(state, stack));
}

// From the open configurations on without reading anything: those that read come out.
void GrammarMachine::close(std::vector<Config>& out) {
  const int64_t before = work_;
  while (!open_.empty()) {
    const auto at = static_cast<uint32_t>(open_.back() >> 32), stack = static_cast<uint32_t>(open_.back());
    open_.pop_back();
    if (++work_ > before + kMostWork) {
      open_.clear();
      fail(ErrorCode::kInvalidArgument,
           "the constraint is too ambiguous: one byte needs more than {} steps; make its alternatives differ earlier",
           kMostWork);
    }
    const Grammar::State& s = grammar_->states[at];
    if (!s.ranges.empty()) out.push_back(config(at, stack));
    for (const uint32_t to : s.epsilons) visit(to, stack);
    for (const Grammar::Call& call : s.calls) {
      const uint32_t start = grammar_->rules[call.rule].start;
      if (grammar_->states[call.to].leaves) {  // a call that is the last thing a rule does needs no frame
        visit(start, stack);
      } else if (frames_[stack].depth + grammar_->states[call.to].height <= Grammar::kMaxDepth) {
        visit(start, push(call.to, stack));
      }
    }
    if (s.final && stack == kNoStack) out.push_back(kAccept);
    if (s.final && stack != kNoStack) visit(frames_[stack].returns_to, frames_[stack].below);
  }
}

void GrammarMachine::start(std::vector<Config>& out) {
  ++walk_;
  visit(grammar_->rules.front().start, kNoStack);
  close(out);
}

void GrammarMachine::step(std::span<const Config> from, int symbol, std::vector<Config>& out) {
  const uint8_t byte = symbols_.bytes[static_cast<size_t>(symbol)];
  ++walk_;
  for (const Config c : from) {
    ++work_;
    if (c == kAccept) continue;
    for (const Grammar::Range& r : grammar_->states[c >> 32].ranges)
      if (r.low <= byte && byte <= r.high) visit(r.to, static_cast<uint32_t>(c));
  }
  close(out);
}

Machine::Config GrammarMachine::import(const Machine& from, Config c) {
  if (c == kAccept) return c;
  const auto& other = static_cast<const GrammarMachine&>(from);
  std::vector<uint32_t> returns;
  for (auto stack = static_cast<uint32_t>(c); stack != kNoStack; stack = other.frames_[stack].below)
    returns.push_back(other.frames_[stack].returns_to);
  uint32_t stack = kNoStack;
  for (; !returns.empty(); returns.pop_back()) stack = push(returns.back(), stack);
  return config(static_cast<uint32_t>(c >> 32), stack);
}

}  // namespace vl2

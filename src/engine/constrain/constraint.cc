#include "engine/constrain/constraint.h"

#include <algorithm>

#include "core/base/error.h"

namespace vl2 {

Constraint::Constraint(std::unique_ptr<LazyDfa> dfa, std::shared_ptr<const Tokenizer> tokenizer, int32_t eos,
                       std::optional<int32_t> assistant, bool reads_prompt, size_t most_memory)
    : tokenizer_(std::move(tokenizer)),
      eos_(eos),
      assistant_(assistant),
      reads_prompt_(reads_prompt),
      most_memory_(most_memory),
      dfa_(std::move(dfa)) {}

// Into a new dfa, once the current one has grown too large. Answers that still hold the old one follow at their next
// step.
void Constraint::renew(Position& position) const {
  if (dfa_->memory() > most_memory_) {
    dfa_ = dfa_->fresh();
    ++times_forgotten_;
  }
  if (position.dfa == dfa_) return;
  position.state = dfa_->import(*position.dfa, position.state);
  position.dfa = dfa_;
}

int64_t Constraint::times_forgotten() const {
  const std::lock_guard lock(mutex_);
  return times_forgotten_;
}

int32_t Constraint::step(const Position& position, int32_t id) const {
  LazyDfa& dfa = *position.dfa;
  const Machine::Symbols& symbols = dfa.machine().symbols();
  const auto special = std::find(symbols.specials.begin(), symbols.specials.end(), id);
  if (special != symbols.specials.end())
    return dfa.step(position.state, symbols.num_classes() + static_cast<int>(special - symbols.specials.begin()));
  if (id < 0 || !tokenizer_->has(id) || tokenizer_->is_added(id) || tokenizer_->token_text(id).empty())
    return LazyDfa::kDead;
  return dfa.step_bytes(position.state, tokenizer_->token_text(id));
}

Constraint::Position Constraint::start(std::span<const int32_t> prompt) const {
  const std::lock_guard lock(mutex_);
  Position position{dfa_, dfa_->start()};
  if (!reads_prompt_) return position;
  auto begin = prompt.begin();
  for (auto at = prompt.begin(); at != prompt.end(); ++at)
    if (assistant_ && *at == *assistant_) begin = at + 1;
  const int32_t fresh = position.state;
  for (; begin != prompt.end(); ++begin) {
    const int32_t next = step(position, *begin);
    position.state = next != LazyDfa::kDead ? next : fresh;  // what the answer would not have been allowed is only text
  }
  return position;
}

bool Constraint::advance(Position& position, int32_t id) const {
  const std::lock_guard lock(mutex_);
  renew(position);
  const int32_t next = step(position, id);
  if (next == LazyDfa::kDead) return false;
  position.state = next;
  return true;
}

std::shared_ptr<const TokenMask> Constraint::mask(Position& position) const {
  const std::lock_guard lock(mutex_);
  renew(position);
  return position.dfa->mask(position.state);
}

ConstraintState::ConstraintState(std::shared_ptr<const Constraint> constraint, std::span<const int32_t> prompt)
    : constraint_(std::move(constraint)), position_(constraint_->start(prompt)) {}

const TokenMask& ConstraintState::allowed() {
  if (!mask_) {
    if (ended_) {
      auto mask = std::make_shared<TokenMask>();
      mask->bits.resize((static_cast<size_t>(constraint_->num_ids()) + 63) / 64);
      mask_ = std::move(mask);
    } else {
      mask_ = constraint_->mask(position_);
    }
  }
  return *mask_;
}

bool ConstraintState::accept(int32_t id) {
  if (ended_) return false;
  if (id == constraint_->eos()) {
    if (!may_end()) return false;
    ended_ = true;
  } else if (!constraint_->advance(position_, id)) {
    return false;
  }
  mask_.reset();
  return true;
}

bool ConstraintState::may_end() { return !ended_ && allowed().has(constraint_->eos()); }

std::optional<int32_t> ConstraintState::forced() {
  const TokenMask& mask = allowed();
  return mask.allowed == 1 ? std::optional(mask.first) : std::nullopt;
}

}  // namespace vl2

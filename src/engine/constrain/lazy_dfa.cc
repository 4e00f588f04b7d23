#include "engine/constrain/lazy_dfa.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vl2 {

size_t LazyDfa::Hash::operator()(const std::vector<Machine::Config>& configs) const {
  uint64_t hash = configs.size();
  for (const Machine::Config c : configs) hash = splitmix64(hash ^ c);
  return static_cast<size_t>(hash);
}

LazyDfa::LazyDfa(std::unique_ptr<Machine> machine, std::shared_ptr<const TokenTrie> trie, int32_t eos, int32_t num_ids)
    : machine_(std::move(machine)),
      trie_(std::move(trie)),
      eos_(eos),
      num_ids_(num_ids),
      symbols_(static_cast<size_t>(machine_->symbols().count())) {
  VL2_CHECK(eos >= 0 && eos < num_ids, "eos {} of {} ids", eos, num_ids);
}

std::unique_ptr<LazyDfa> LazyDfa::fresh() const {
  return std::make_unique<LazyDfa>(machine_->fresh(), trie_, eos_, num_ids_);
}

int32_t LazyDfa::intern(std::vector<Machine::Config> configs) {
  std::sort(configs.begin(), configs.end());
  configs.erase(std::unique(configs.begin(), configs.end()), configs.end());
  if (configs.empty()) return kDead;
  if (configs.size() > kMostConfigs)
    fail(ErrorCode::kInvalidArgument,
         "the constraint is too ambiguous: {} alternatives are open at one place of the answer, at most {} are "
         "followed; make alternatives differ earlier",
         configs.size(), kMostConfigs);
  const auto [at, is_new] = known_.try_emplace(std::move(configs), static_cast<int32_t>(states_.size()));
  if (!is_new) return at->second;
  State state;
  state.configs = &at->first;
  for (const Machine::Config c : at->first) state.accepts = state.accepts || machine_->accepts(c);
  states_.push_back(std::move(state));
  next_.resize(next_.size() + symbols_, kUnknown);
  memory_ += symbols_ * sizeof(int32_t) + at->first.size() * sizeof(Machine::Config) + sizeof(State) + 96;
  return at->second;
}

int32_t LazyDfa::start() {
  std::vector<Machine::Config> configs;
  machine_->start(configs);
  return intern(std::move(configs));
}

int32_t LazyDfa::find_step(int32_t state, int symbol) {
  std::vector<Machine::Config> configs;
  const std::vector<Machine::Config>& from = *states_[static_cast<size_t>(state)].configs;
  machine_->step(from, symbol, configs);
  const int32_t to = intern(std::move(configs));
  next_[static_cast<size_t>(state) * symbols_ + static_cast<size_t>(symbol)] = to;
  return to;
}

int32_t LazyDfa::step(int32_t state, int symbol) {
  const int32_t known = next_[static_cast<size_t>(state) * symbols_ + static_cast<size_t>(symbol)];
  return known == kUnknown ? find_step(state, symbol) : known;
}

int32_t LazyDfa::step_bytes(int32_t state, std::string_view bytes) {
  const auto& class_of = machine_->symbols().class_of;
  for (size_t i = 0; i < bytes.size() && state != kDead; ++i)
    state = step(state, class_of[static_cast<uint8_t>(bytes[i])]);
  return state;
}

std::shared_ptr<const TokenMask> LazyDfa::mask(int32_t state) {
  if (states_[static_cast<size_t>(state)].mask) return states_[static_cast<size_t>(state)].mask;
  auto mask = std::make_shared<TokenMask>();
  mask->bits.resize((static_cast<size_t>(num_ids_) + 63) / 64);
  const auto allow = [&](int32_t id) {
    if (id < num_ids_) mask->bits[static_cast<size_t>(id) / 64] |= uint64_t{1} << (static_cast<size_t>(id) % 64);
  };

  const auto& class_of = machine_->symbols().class_of;
  const std::vector<TokenTrie::Node>& nodes = trie_->nodes();
  std::vector<int32_t> at(static_cast<size_t>(trie_->max_depth()) + 1);  // the state after so many bytes
  at[0] = state;
  const size_t memory_before = memory();
  const int64_t work_before = machine_->work();
  const auto end = static_cast<int32_t>(nodes.size());
  for (int32_t i = 0; i < end;) {
    const TokenTrie::Node& node = nodes[static_cast<size_t>(i)];
    const int symbol = class_of[node.byte];
    const int32_t from = at[node.depth - 1u];
    int32_t to = next_[static_cast<size_t>(from) * symbols_ + static_cast<size_t>(symbol)];
    if (to == kUnknown) {
      to = find_step(from, symbol);
      if (machine_->work() > work_before + kMostSteps || memory() > memory_before + kMostGrowth)
        fail(ErrorCode::kInvalidArgument,
             "the constraint is too large: which tokens may come next takes more than {} steps or {} MiB to find out; "
             "make its alternatives fewer or its repeat counts smaller",
             kMostSteps, kMostGrowth >> 20);
    }
    if (to == kDead) {
      i = node.skip;
      continue;
    }
    at[node.depth] = to;
    if (node.token >= 0) allow(node.token);
    ++i;
  }
  for (const auto& [token, twin] : trie_->twins())
    if (mask->has(token)) allow(twin);
  const Machine::Symbols& symbols = machine_->symbols();
  for (size_t i = 0; i < symbols.specials.size(); ++i)
    if (step(state, symbols.num_classes() + static_cast<int>(i)) != kDead) allow(symbols.specials[i]);
  mask->bits[static_cast<size_t>(eos_) / 64] &= ~(uint64_t{1} << (static_cast<size_t>(eos_) % 64));  // never as text
  if (accepts(state)) allow(eos_);

  for (size_t i = mask->bits.size(); i-- > 0;) {
    mask->allowed += std::popcount(mask->bits[i]);
    if (mask->bits[i] != 0) mask->first = static_cast<int32_t>(i * 64) + std::countr_zero(mask->bits[i]);
  }
  memory_ += mask->bits.size() * sizeof(uint64_t) + 128;
  return states_[static_cast<size_t>(state)].mask = std::move(mask);
}

int32_t LazyDfa::import(const LazyDfa& from, int32_t state) {
  std::vector<Machine::Config> configs;
  for (const Machine::Config c : *from.states_[static_cast<size_t>(state)].configs)
    configs.push_back(machine_->import(*from.machine_, c));
  return intern(std::move(configs));
}

}  // namespace vl2

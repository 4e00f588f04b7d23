// A machine made deterministic, step by step, as far as it is looked at; and the tokens allowed in each of its states.
//
// A state is a set of the machine's configurations. What a state does with a symbol is found out once, and so is its
// mask. One thread at a time. Memory only grows: whoever owns it looks at memory() and starts over with a new one, into
// which import() takes the states still in use.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/constrain/machine.h"
#include "engine/constrain/token_trie.h"

namespace vl2 {

// A bit for every id, whether the token may come next.
struct TokenMask {
  std::vector<uint64_t> bits;
  int64_t allowed = 0;
  int32_t first = -1;  // the lowest allowed id

  bool has(int32_t id) const {
    const auto word = static_cast<size_t>(id) / 64;
    return id >= 0 && word < bits.size() && (bits[word] >> (static_cast<size_t>(id) % 64) & 1) != 0;
  }
};

class LazyDfa {
 public:
  static constexpr int32_t kDead = -1;
  // Beyond these the constraint is refused: no mask takes longer than about a tenth of a second.
  static constexpr size_t kMostConfigs = 512;                      // alternatives at a time
  static constexpr int64_t kMostSteps = 4'000'000;                 // of configurations, for one mask
  static constexpr size_t kMostGrowth = size_t{48} * 1024 * 1024;  // bytes, by one mask

  LazyDfa(std::unique_ptr<Machine> machine, std::shared_ptr<const TokenTrie> trie, int32_t eos, int32_t num_ids);

  // All as in the machine; kInvalidArgument beyond the limits above.
  int32_t start();
  int32_t step(int32_t state, int symbol);
  int32_t step_bytes(int32_t state, std::string_view bytes);  // kDead once nothing is left
  bool accepts(int32_t state) const { return states_[static_cast<size_t>(state)].accepts; }
  // The tokens that may come next; eos where the text may end. Never changes; outlives this.
  std::shared_ptr<const TokenMask> mask(int32_t state);

  int32_t import(const LazyDfa& from, int32_t state);
  std::unique_ptr<LazyDfa> fresh() const;
  const Machine& machine() const { return *machine_; }
  size_t memory() const { return memory_ + machine_->memory(); }

 private:
  static constexpr int32_t kUnknown = -2;
  struct Hash {
    size_t operator()(const std::vector<Machine::Config>& configs) const;
  };
  struct State {
    const std::vector<Machine::Config>* configs = nullptr;
    bool accepts = false;
    std::shared_ptr<const TokenMask> mask;
  };
  int32_t intern(std::vector<Machine::Config> configs);
  int32_t find_step(int32_t state, int symbol);

  std::unique_ptr<Machine> machine_;
  std::shared_ptr<const TokenTrie> trie_;
  int32_t eos_, num_ids_;
  size_t symbols_;  // of the machine
  std::unordered_map<std::vector<Machine::Config>, int32_t, Hash> known_;
  std::vector<State> states_;
  std::vector<int32_t> next_;  // [states, symbols]
  size_t memory_ = 0;
};

}  // namespace vl2

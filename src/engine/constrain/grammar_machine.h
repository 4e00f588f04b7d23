// Runs a Grammar: a configuration is a state and the stack of calls it stands in.
//
// Stacks are kept once each, as a tree of return addresses. One thread at a time.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/constrain/grammar.h"
#include "engine/constrain/machine.h"

namespace vl2 {

class GrammarMachine : public Machine {
 public:
  // kMostWork: of one step; a grammar that needs more is refused with kInvalidArgument.
  static constexpr int64_t kMostWork = 1'000'000;

  explicit GrammarMachine(std::shared_ptr<const Grammar> grammar);

  const Symbols& symbols() const override { return symbols_; }
  void start(std::vector<Config>& out) override;
  void step(std::span<const Config> from, int symbol, std::vector<Config>& out) override;
  bool accepts(Config config) const override { return config == kAccept; }
  std::unique_ptr<Machine> fresh() const override;
  Config import(const Machine& from, Config config) override;
  size_t memory() const override;

 private:
  static constexpr Config kAccept = ~Config{0};
  static constexpr uint32_t kNoStack = 0;
  struct Frame {
    uint32_t returns_to, below;
    int depth;
  };
  struct Seen {
    uint64_t walk = 0;
    uint32_t stack = 0;
  };
  static Config config(uint32_t state, uint32_t stack) { return Config{state} << 32 | stack; }
  uint32_t push(uint32_t returns_to, uint32_t below);
  void visit(uint32_t state, uint32_t stack);
  void close(std::vector<Config>& out);

  std::shared_ptr<const Grammar> grammar_;
  Symbols symbols_;
  std::vector<Frame> frames_;
  std::unordered_map<uint64_t, uint32_t> frame_of_;
  std::vector<Seen> seen_;    // of each state: the last walk that met it
  std::vector<Config> open_;  // of the walk
  uint64_t walk_ = 0;
};

}  // namespace vl2

// What a constraint is made of: a machine that reads symbols, several of its configurations at a time.
//
// Symbols are classes of bytes that the machine never tells apart, and behind them its special tokens, each a symbol of
// its own. A machine may keep what its configurations refer to (stacks), so it belongs to one LazyDfa and is used by
// one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace vl2 {

class Machine {
 public:
  using Config = uint64_t;

  struct Symbols {
    std::array<uint8_t, 256> class_of{};
    std::vector<uint8_t> bytes;     // one of each class
    std::vector<int32_t> specials;  // ids of tokens
    int num_classes() const { return static_cast<int>(bytes.size()); }
    int count() const { return num_classes() + static_cast<int>(specials.size()); }
  };

  virtual ~Machine() = default;
  virtual const Symbols& symbols() const = 0;
  virtual void start(std::vector<Config>& out) = 0;
  // Appends where any of `from` may be after the symbol; nothing: nowhere. Some may come twice.
  virtual void step(std::span<const Config> from, int symbol, std::vector<Config>& out) = 0;
  // Whether the text may end here.
  virtual bool accepts(Config config) const = 0;

  // The same machine without a memory, and a configuration of another machine of this kind in terms of this one.
  virtual std::unique_ptr<Machine> fresh() const = 0;
  virtual Config import(const Machine& from, Config config) = 0;
  // Bytes its configurations take.
  virtual size_t memory() const = 0;
  // Configurations looked at so far, those on the way included.
  int64_t work() const { return work_; }

 protected:
  int64_t work_ = 0;
};

}  // namespace vl2

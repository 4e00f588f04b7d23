// Tells when an answer goes round in circles: its last tokens are one cycle of at most kLongestCycle tokens, said at
// least kLeastRounds times without a difference, and at least kLeastTokens of them.
//
// Lists and tables whose rows differ in a single token do not count, however alike they look. A loop of a longer cycle
// does not either: so long a text is sooner quoted twice than meaningless four times.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace vl2 {

class LoopDetector {
 public:
  static constexpr int64_t kLongestCycle = 64;
  static constexpr int64_t kLeastRounds = 4;
  static constexpr int64_t kLeastTokens = 128;

  // The answer's next token. True: it ends a loop.
  bool push(int32_t id);

 private:
  std::array<int32_t, kLongestCycle> last_{};  // a ring: the token before the next one, and those before
  int64_t count_ = 0;
  std::array<int64_t, kLongestCycle + 1> same_{};  // per cycle: tokens on end that are what they were a cycle before
};

}  // namespace vl2

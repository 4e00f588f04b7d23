#include "engine/runtime/loop_detector.h"

#include <algorithm>

namespace vl2 {

bool LoopDetector::push(int32_t id) {
  bool loops = false;
  for (int64_t cycle = 1; cycle <= std::min(kLongestCycle, count_); ++cycle) {
    int64_t& same = same_[static_cast<size_t>(cycle)];
    same = last_[static_cast<size_t>((count_ - cycle) % kLongestCycle)] == id ? same + 1 : 0;
    const int64_t length = cycle + same;  // the first round repeats nothing
    loops |= same > 0 && length >= std::max(kLeastRounds * cycle, kLeastTokens);
  }
  last_[static_cast<size_t>(count_++ % kLongestCycle)] = id;
  return loops;
}

}  // namespace vl2

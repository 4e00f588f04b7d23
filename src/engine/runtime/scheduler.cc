#include "engine/runtime/scheduler.h"

#include <algorithm>

#include "core/base/error.h"

namespace vl2 {

Scheduler::Scheduler(const SchedulerLimits& limits, KvBlocks& blocks) : limits_(limits), blocks_(blocks) {
  VL2_CHECK(limits.prefill_chunk >= 0 && limits.max_context >= 1 && limits.max_sequences >= 1);
}

void Scheduler::add(Schedulable& sequence) {
  VL2_CHECK(blocks_.blocks_for(sequence.max_cached) <= blocks_.num_blocks() && sequence.blocks.empty(),
            "{} tokens for a cache of {} blocks of {}", sequence.max_cached, blocks_.num_blocks(),
            blocks_.block_tokens());
  waiting_.push_back(&sequence);
}

std::vector<Schedulable*> Scheduler::admit() {
  std::vector<Schedulable*> admitted;
  while (!waiting_.empty() && static_cast<int64_t>(running_.size()) < limits_.max_sequences) {
    Schedulable& next = *waiting_.front();
    const int64_t needed = blocks_.blocks_for(next.max_cached);
    if (needed > blocks_.num_free()) break;
    blocks_.allocate(needed, next.blocks);
    running_.push_back(&next);
    admitted.push_back(&next);
    waiting_.pop_front();
  }
  return admitted;
}

void Scheduler::remove(Schedulable& sequence) {
  std::erase(waiting_, &sequence);
  std::erase(running_, &sequence);
  blocks_.free(sequence.blocks);
  sequence.blocks.clear();
}

std::vector<Scheduler::Slice> Scheduler::next_step() const {
  std::vector<Slice> slices;
  int64_t left = prefill_budget();
  for (Schedulable* s : running_) {
    if (s->decoding()) {
      VL2_CHECK(s->past + 1 + s->drafts <= s->max_cached, "{} drafts behind token {} of at most {}", s->drafts, s->past,
                s->max_cached);
      slices.push_back({s, 1 + s->drafts});
      continue;
    }
    if (!s->encoded || left == 0) continue;
    const int64_t rest = s->prompt_tokens - s->past;
    if (limits_.prefill_chunk == 0 && rest > left) {
      left = 0;  // in one piece in the next step; nobody overtakes it
      continue;
    }
    slices.push_back({s, std::min(rest, left)});
    left -= slices.back().count;
  }
  return slices;
}

std::vector<Schedulable*> Scheduler::to_encode() const {
  std::vector<Schedulable*> result;
  int64_t ready = 0;
  for (Schedulable* s : running_) {
    if (!s->encoded) {
      result.push_back(s);
    } else if (!s->decoding()) {
      ready += limits_.prefill_chunk > 0 ? s->prompt_tokens - s->past : prefill_budget();
    }
  }
  if (ready >= prefill_budget()) result.clear();
  return result;
}

}  // namespace vl2

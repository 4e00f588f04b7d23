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

// Blocks that another's prompt may have computed: not the last token's, whose logits are wanted.
int64_t Scheduler::shareable(const Schedulable& s) const {
  return std::min(static_cast<int64_t>(s.keys.size()), (s.prompt_tokens - 1) / blocks_.block_tokens());
}

std::vector<Schedulable*> Scheduler::admit() {
  std::vector<Schedulable*> admitted;
  while (!waiting_.empty() && static_cast<int64_t>(running_.size()) < limits_.max_sequences) {
    Schedulable& next = *waiting_.front();
    std::span<const BlockKey> keys = next.keys;
    keys = keys.first(static_cast<size_t>(shareable(next)));
    keys = keys.first(static_cast<size_t>(blocks_.known(keys)));
    const int64_t own = blocks_.blocks_for(next.max_cached) - static_cast<int64_t>(keys.size());
    if (!blocks_.fits(keys, own)) break;
    blocks_.share(keys, next.blocks);
    blocks_.allocate(own, next.blocks);
    for (size_t i = keys.size(); i < next.keys.size(); ++i) blocks_.name(next.blocks[i], next.keys[i]);
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

int64_t Scheduler::pass_cached() {
  int64_t passed = 0;
  const int64_t tokens = blocks_.block_tokens();
  for (Schedulable* s : running_) {
    const int64_t before = s->past;
    for (int64_t i = s->past / tokens; i < shareable(*s) && blocks_.is_complete(s->blocks[static_cast<size_t>(i)]); ++i)
      s->past = (i + 1) * tokens;
    s->cached_tokens += s->past - before;
    passed += s->past - before;
  }
  return passed;
}

void Scheduler::filled(const Schedulable& s, int64_t begin) {
  const int64_t tokens = blocks_.block_tokens();
  const int64_t end = std::min(s.past / tokens, static_cast<int64_t>(s.keys.size()));
  for (int64_t i = begin / tokens; i < end; ++i) blocks_.complete(s.blocks[static_cast<size_t>(i)]);
}

std::vector<Scheduler::Slice> Scheduler::next_step(int64_t most_prompt_tokens) const {
  std::vector<Slice> slices;
  std::vector<int32_t> written;  // blocks that somebody computes in this step and others may wait for
  int64_t left = most_prompt_tokens;
  if (left > 0) left = limits_.prefill_chunk > 0 ? std::min(left, limits_.prefill_chunk) : limits_.max_context;
  for (Schedulable* s : running_) {
    if (s->decoding()) {
      VL2_CHECK(s->past + 1 + s->drafts <= s->max_cached, "{} drafts behind token {} of at most {}", s->drafts, s->past,
                s->max_cached);
      slices.push_back({s, 1 + s->drafts});
      continue;
    }
    if (!s->encoded() || left == 0) continue;
    const int64_t rest = s->prompt_tokens - s->past;
    if (limits_.prefill_chunk == 0 && rest > left) {
      left = 0;  // in one piece in the next step; nobody overtakes it
      continue;
    }
    const int64_t tokens = blocks_.block_tokens();
    int64_t end = s->past + std::min(rest, left);
    for (int64_t i = s->past / tokens; i < static_cast<int64_t>(s->keys.size()) && i * tokens < end; ++i) {
      const int32_t block = s->blocks[static_cast<size_t>(i)];
      if (std::find(written.begin(), written.end(), block) == written.end()) {
        written.push_back(block);
      } else {
        end = i * tokens;
      }
    }
    if (end <= s->past) continue;
    slices.push_back({s, end - s->past});
    left -= slices.back().count;
  }
  return slices;
}

bool Scheduler::answering() const {
  return std::any_of(running_.begin(), running_.end(), [](const Schedulable* s) { return s->decoding(); });
}

bool Scheduler::prompt_ready() const {
  return std::any_of(running_.begin(), running_.end(),
                     [](const Schedulable* s) { return !s->decoding() && s->encoded(); });
}

// Somebody before it will compute the block it stands at.
bool Scheduler::waits_for_another(const Schedulable& sequence) const {
  const auto at = static_cast<size_t>(sequence.past / blocks_.block_tokens());
  if (static_cast<int64_t>(at) >= shareable(sequence)) return false;
  for (const Schedulable* s : running_) {
    if (s == &sequence) return false;
    if (at < s->blocks.size() && s->blocks[at] == sequence.blocks[at]) return true;
  }
  return false;
}

std::vector<Schedulable*> Scheduler::to_encode() const {
  std::vector<Schedulable*> result;
  int64_t ready = 0;
  for (Schedulable* s : running_) {
    if (s->decoding()) continue;
    if (s->encoded()) {
      ready += limits_.prefill_chunk > 0 ? s->prompt_tokens - s->past : prefill_budget();
    } else if (!waits_for_another(*s)) {
      result.push_back(s);
    }
  }
  if (ready >= prefill_budget()) result.clear();
  return result;
}

}  // namespace vl2

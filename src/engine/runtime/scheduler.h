// Who takes part in the next step: first come, first served, new requests joining between any two steps.
//
// A request is admitted with every cache block it can ever need, so that nothing that runs has to be thrown out again;
// the first one that does not fit holds back those behind it, so that nobody starves. A step holds one token of every
// decoding sequence, with the drafts behind it, and up to prefill_chunk prompt tokens of the others, in order of
// arrival.
//
// Blocks whose contents somebody else has computed, or is about to, are shared and not computed again: a prompt begins
// behind them, and waits where they are not complete yet. Who computes them is decided step by step: the first who can.
// So it does not matter who of those that share them goes away.
//
// Knows neither model nor text. Borrows what it schedules; the engine's thread only.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "engine/runtime/kv_blocks.h"

namespace vl2 {

// What the scheduler sees of a sequence.
struct Schedulable {
  int64_t prompt_tokens = 0;
  int64_t max_cached = 0;       // tokens it will have in the cache at most
  int64_t past = 0;             // tokens in the cache
  int64_t cached_tokens = 0;    // those of them that it did not run itself
  int64_t encode_until = 0;     // tokens before this one need pictures that are not encoded yet
  bool embeds = false;          // its prompt is run for hidden states, and nothing is sampled
  int64_t drafts = 0;           // guessed tokens to run behind its next one; decoding sequences only
  std::vector<BlockKey> keys;   // of its prompt's full blocks; empty: it shares nothing
  std::vector<int32_t> blocks;  // of the cache; the scheduler's to fill and to free

  bool decoding() const { return past >= prompt_tokens; }
  bool encoded() const { return past >= encode_until; }
};

struct SchedulerLimits {
  int64_t prefill_chunk = 512;  // 0: prompts are not cut
  int64_t max_context = 4096;   // longest prompt there can be
  int64_t max_sequences = 64;
};

class Scheduler {
 public:
  // The next `count` tokens of a sequence.
  struct Slice {
    Schedulable* sequence = nullptr;
    int64_t count = 0;

    bool samples() const { return !sequence->embeds && sequence->past + count >= sequence->prompt_tokens; }
    // Its last rows, whose logits are wanted: of a prompt the last one, of an answer all.
    int64_t logit_rows() const { return sequence->decoding() ? count : samples() ? 1 : 0; }
    int64_t hidden_rows() const { return sequence->embeds ? count : 0; }
  };

  Scheduler(const SchedulerLimits& limits, KvBlocks& blocks);

  void add(Schedulable& sequence);     // waits until admitted
  std::vector<Schedulable*> admit();   // those that run from now on
  void remove(Schedulable& sequence);  // waiting or running; its blocks are free
  // Moves everybody to the end of what is complete in the cache, so many tokens in all. Before to_encode() and
  // next_step().
  int64_t pass_cached();
  // Fewer tokens of prompts than prefill_chunk where answers wait for them; with 0 decoding sequences are alone.
  // Prompts that are not cut are taken whole or not at all.
  std::vector<Slice> next_step(int64_t most_prompt_tokens) const;
  std::vector<Slice> next_step() const { return next_step(prefill_budget()); }
  // A sequence has run tokens of its prompt: `past` has moved on, from `begin`.
  void filled(const Schedulable& sequence, int64_t begin);

  // Running sequences whose pictures shall be encoded now, in order. None while what is encoded already fills the next
  // step: features take memory until they have been prefilled.
  std::vector<Schedulable*> to_encode() const;

  bool answering() const;     // somebody waits for the next token of an answer
  bool prompt_ready() const;  // or for tokens of a prompt, and for no picture before that

  const std::deque<Schedulable*>& waiting() const { return waiting_; }
  const std::vector<Schedulable*>& running() const { return running_; }  // in order of arrival

 private:
  int64_t prefill_budget() const { return limits_.prefill_chunk > 0 ? limits_.prefill_chunk : limits_.max_context; }
  int64_t shareable(const Schedulable& sequence) const;
  bool waits_for_another(const Schedulable& sequence) const;

  SchedulerLimits limits_;
  KvBlocks& blocks_;
  std::deque<Schedulable*> waiting_;
  std::vector<Schedulable*> running_;
};

}  // namespace vl2

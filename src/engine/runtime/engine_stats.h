// What an engine is doing and has done; for --timings, metrics and benchmarks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/runtime/request.h"

namespace vl2 {

// A request that is running.
struct SequenceStats {
  int64_t slot = 0;  // 0 to max_sequences - 1; its own until it is finished
  int64_t prompt_tokens = 0;
  int64_t prefilled_tokens = 0;  // of the prompt, cached ones too
  int64_t generated_tokens = 0;
  int64_t remaining_tokens = 0;  // that may follow at most
};

// A snapshot; counters run since the engine was opened.
struct EngineStats {
  int64_t waiting = 0;  // requests
  int64_t running = 0;
  int64_t finished = 0;
  std::vector<SequenceStats> sequences = {};  // those that run, in order of arrival
  int64_t cache_blocks_used = 0;              // by requests
  int64_t cache_blocks_remembered = 0;        // by nobody, but what they hold is known; they are free as well
  int64_t cache_blocks_total = 0;
  int64_t prefix_query_tokens = 0;  // of prompts that were looked up in the cache
  int64_t prefix_hit_tokens = 0;    // those of them that did not have to be run
  int64_t picture_queries = 0;      // pictures that were to be encoded
  int64_t picture_hits = 0;         // those of them that were there, or on their way
  int64_t picture_bytes = 0;        // kept in the picture cache
  int64_t steps = 0;
  int64_t tiles = 0;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  int64_t drafted_tokens = 0;   // guessed tokens that were run
  int64_t accepted_tokens = 0;  // those of them that saved a step
  double vision_ms = 0;
  double forward_ms = 0;  // steps through the decoder
  double sample_ms = 0;
};

// One turn of the engine's loop.
struct StepReport {
  int64_t decode_tokens = 0;   // rows of decoding sequences, drafts included
  int64_t prefill_tokens = 0;  // rows of the prefill chunk
  int64_t sampled_tokens = 0;  // by decoding sequences and those whose prompt is complete now
  int64_t drafted_tokens = 0;
  int64_t accepted_tokens = 0;
  int64_t tiles = 0;  // encoded before the step
  double vision_ms = 0;
  int64_t fetched_logits = 0;  // copied from a device to choose tokens; greedy choices need none
  double forward_ms = 0;
  double sample_ms = 0;
};

// Called on the engine's thread: return quickly, do not throw. Must outlive the engine.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void on_step(const StepReport& report) { (void)report; }
  virtual void on_finish(const Answer& answer) { (void)answer; }
};

// Bytes an engine holds, by what for; made before anything is allocated.
struct MemoryReport {
  int64_t weights = 0;
  int64_t cache = 0;
  int64_t activations = 0;  // estimate of the largest step
  int64_t available = 0;    // when the engine was opened
  int64_t cached_tokens = 0;
  int64_t pictures = 0;      // encoded ones that are kept
  int64_t host_experts = 0;  // beside a card's: those of the host that are not in total()
  int64_t total() const { return weights + cache + activations + pictures; }
};

}  // namespace vl2

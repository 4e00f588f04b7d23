// The engine's thread: takes requests from the queue, runs one step after the other, hands out tokens.
//
// Everything here belongs to that one thread; it meets others in channels.h alone. A request that fails ends with its
// error and takes nobody with it.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/model/deepseek_vl2.h"
#include "engine/runtime/channels.h"
#include "engine/runtime/kv_blocks.h"
#include "engine/runtime/picture_cache.h"
#include "engine/runtime/scheduler.h"
#include "engine/runtime/sequence.h"
#include "engine/runtime/vision_stage.h"

namespace vl2 {

// What the loop borrows from the engine.
struct EngineLoopParts {
  const DeepseekVl2& model;
  KvCache& cache;
  RequestQueue& queue;
  StatsBoard& board;
  EngineObserver* observer;  // optional
};

class EngineLoop {
 public:
  EngineLoop(const EngineLoopParts& parts, const SequenceLimits& sequence_limits, const SchedulerLimits& limits,
             int64_t picture_cache_bytes);

  // Until the queue is closed; what is unfinished then is cancelled.
  void run();

 private:
  void accept(Submission submission);
  void turn();
  void admit();
  int64_t free_slot() const;
  void retire_cancelled();
  void encode_pictures(int64_t most_tiles, StepReport& report);
  bool report_progress(Sequence& sequence, Stage stage, int64_t done, int64_t total);
  void step(int64_t most_prompt_tokens, StepReport& report);
  void draft();
  void run_slices(std::span<const Scheduler::Slice> slices, StepReport& report);
  struct Output {
    std::vector<LogitRow> logits;     // of all slices, one after the other
    std::vector<HostTensor> fetched;  // what they are views of
    HostTensor hidden;                // rows of all slices
  };
  Output forward(std::span<const Scheduler::Slice> slices);
  void fetch_logits(std::span<const Scheduler::Slice> slices, Tensor logits, Output& output) const;
  void after_forward(std::span<const Scheduler::Slice> slices, const Output& output, double forward_ms,
                     StepReport& report);
  void choose(std::span<const Scheduler::Slice> slices, std::span<const LogitRow> logits);
  void embed(Sequence& sequence, Tensor hidden);
  void sample_rows(Sequence& sequence, std::span<const LogitRow> logits, StepReport& report);
  bool sample(Sequence& sequence, const LogitRow& row);
  void finish(Sequence& sequence, FinishReason reason, std::optional<Error> error = std::nullopt);
  void finish_all(FinishReason reason, const std::optional<Error>& error = std::nullopt);
  void publish();

  const EngineLoopParts parts_;
  const SequenceLimits sequence_limits_;
  KvBlocks blocks_;
  Scheduler scheduler_;
  PictureCache pictures_;
  VisionStage vision_;
  StepCost cost_;
  double tile_ms_ = 0;         // of a tile in the latest turn that encoded any; 0: none did
  double token_ms_ = 0;        // of a prompt's token in the latest step of many; 0: there was none
  bool encoded_last_ = false;  // in the turn before
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<std::pair<std::shared_ptr<TokenChannel>, Answer>> answers_;  // complete, not handed out yet
  EngineStats stats_;
};

}  // namespace vl2

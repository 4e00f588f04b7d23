// One request while the engine works on it: its tokens, its pictures' features, its sampler and its text.
//
// Created when it is submitted, in the engine's hands until it is finished. The engine's thread only, but
// for choose().
#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/text/incremental_decoder.h"
#include "engine/ops/ops.h"
#include "engine/runtime/channels.h"
#include "engine/runtime/drafter.h"
#include "engine/runtime/loop_detector.h"
#include "engine/runtime/picture_cache.h"
#include "engine/runtime/scheduler.h"
#include "engine/runtime/stop_strings.h"

namespace vl2 {

// What all sequences of an engine share.
struct SequenceLimits {
  const Tokenizer* tokenizer = nullptr;  // optional
  int64_t vocab_size = 0;
  int64_t max_context = 0;
  int32_t eos = 0, bos = 0;
  int64_t tokens_per_side = 0;  // of a tile
  bool share_prefixes = false;
  int64_t block_tokens = 1;

  int64_t num_ids() const;  // of tokens that can be chosen; vocabularies are padded
};

// The logits of a token, on the host.
struct LogitRow {
  std::span<const float> values;  // empty: it was chosen where the row is
  ChosenId chosen = {};
};

// A picture of a prompt. Its rows are numbers [first_row, first_row + rows) of the prompt's vision tokens.
struct SequencePicture {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t end = 0;  // tokens of the prompt up to its last
  std::optional<PictureKey> key;
  std::shared_ptr<Picture> picture;  // once somebody asked for it; until the prompt is complete
};

// Rows of a picture among the tokens of a step.
struct VisionPart {
  Tensor features;  // [n, D]
  int64_t first;    // of the step's vision tokens of this sequence
};

class Sequence : public Schedulable {
 public:
  // The request has passed check_request().
  Sequence(Submission submission, const SequenceLimits& limits);

  const Request& request() const { return request_; }
  TokenChannel& channel() const { return *channel_; }
  const std::shared_ptr<TokenChannel>& shared_channel() const { return channel_; }
  // Prompt and answer.
  const std::vector<int32_t>& ids() const { return ids_; }
  // Vision tokens among the next `count` tokens: their places, relative to the first of these, and what stands there.
  std::vector<int32_t> vision_places(int64_t count) const;
  std::vector<VisionPart> vision_parts(int64_t count) const;

  std::vector<SequencePicture> pictures;
  int64_t slot = -1;  // of SequenceStats, while it is running
  SequenceStats stats() const;
  int64_t num_tiles() const { return answer_.usage.tiles; }
  int64_t tiles_done() const;  // encoded, or not needed

  // --- the stages ---
  void admitted();  // it is running, and past what is cached
  // It may have come past its last picture, or they are encoded: goes on to the prefill, and frees pixels.
  void look_at_pictures();
  // Takes note of a piece of its pictures that has been encoded. ms: of the whole piece.
  void saw(double ms);

  // Drafts what may follow the token that runs next, at most `most` tokens and as far as the answer may go; `rows` as
  // for Drafter::draft(). Sets Schedulable::drafts.
  void draft(int64_t most, int64_t rows, const StepCost& cost);
  void drop_draft();
  const std::vector<int32_t>& drafted() const { return draft_; }
  // Takes note of rows that have been run: `count` of the prompt, or the answer's next token and the draft behind it.
  // Of those only the first is past: a drafted token is when it turns out to be the answer's. ms: of the whole step.
  void ran(int64_t count, double ms);
  // After sample() of row `index`: it chose the token that was drafted there, so the next row is the next token's.
  bool accept_drafted(int64_t index);

  // By what rule the token is chosen that comes `ahead` tokens after the next; none: that takes the row.
  std::optional<ChoiceRule> rule(int64_t ahead) const;
  // Chooses the next token and keeps it, or the error, for sample() with the same logits. Sequences may choose at the
  // same time, on any threads.
  void choose(const LogitRow& row);
  // Sends the next token. True: the answer is complete, finish() is due. Errors as Sampler::sample() and
  // ConstraintState::allowed().
  bool sample(const LogitRow& row);

  // Of an embedding: the hidden states of the `rows.rows` tokens before `past`, on the host. kCorrupt: no numbers.
  void add_hidden(Tensor rows);

  // The answer as it stands, ended for this reason; the caller hands it to the channel.
  Answer finish(FinishReason reason, std::optional<Error> error = std::nullopt);
  FinishReason finish_reason() const { return *reason_; }  // after sample() was true

 private:
  void find_pictures(std::span<const PictureKey> keys_of_pictures);
  enum class Phase { kQueue, kVision, kPrefill, kDecode };
  void begin_phase(Phase next);
  void begin_prefill();
  double& stage_ms();
  std::string text_of(int32_t id);
  std::string rest_of_text();
  std::vector<float> embedding() const;

  TokenEvent next_event(const LogitRow& row);

  Request request_;
  std::shared_ptr<TokenChannel> channel_;
  const SequenceLimits& limits_;
  std::vector<int32_t> ids_;
  Sampler sampler_;
  std::optional<ConstraintState> constraint_;
  std::vector<int32_t> vision_places_;  // of the whole prompt
  std::optional<IncrementalDecoder> decoder_;
  StopStrings stops_;
  std::optional<LoopDetector> loops_;
  Drafter drafter_;
  std::vector<int32_t> draft_;
  int64_t max_new_tokens_;
  std::vector<double> hidden_sum_;
  Answer answer_;
  std::optional<FinishReason> reason_;
  std::optional<TokenEvent> chosen_;  // the event of choose(), until sample() sends it
  std::exception_ptr choice_error_;   // the same
  Phase phase_ = Phase::kQueue;
  Clock::time_point phase_began_;
  Clock::time_point last_token_;
};

}  // namespace vl2

#include "engine/runtime/sequence.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/model/visual_sequence.h"

namespace vl2 {
namespace {

double milliseconds(Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

}  // namespace

int64_t SequenceLimits::num_ids() const {
  if (tokenizer == nullptr) return vocab_size;
  return std::clamp<int64_t>(int64_t{tokenizer->highest_id()} + 1, 1, vocab_size);
}

Sequence::Sequence(Submission submission, const SequenceLimits& limits)
    : request_(std::move(submission.request)),
      channel_(std::move(submission.channel)),
      limits_(limits),
      ids_(request_.prompt.input_ids),
      sampler_(request_.sampling, limits.vocab_size, limits.num_ids(), ids_),
      stops_(request_.stop),
      drafter_(request_.speculation, ids_, request_.prompt.images_seq_mask),
      phase_began_(submission.submitted) {
  if (request_.constraint != nullptr) constraint_.emplace(request_.constraint, ids_);
  prompt_tokens = static_cast<int64_t>(ids_.size());
  max_new_tokens_ = std::min(request_.max_new_tokens, limits.max_context - prompt_tokens);
  max_cached = prompt_tokens + max_new_tokens_ - 1;  // the last token is never run
  embeds = request_.embed;
  if (embeds) max_cached = prompt_tokens;
  if (limits.tokenizer != nullptr) decoder_.emplace(*limits.tokenizer);
  if (request_.detect_loops) loops_.emplace();
  find_pictures(submission.picture_keys);
  answer_.usage.prompt_tokens = prompt_tokens;
  answer_.usage.vision_tokens = static_cast<int64_t>(vision_places_.size());
  if (!limits.share_prefixes || embeds) return;
  std::vector<int64_t> rows;
  for (const SequencePicture& p : pictures) rows.push_back(p.rows);
  keys = prefix_keys(request_.prompt, submission.picture_keys, rows, limits.block_tokens);
}

void Sequence::find_pictures(std::span<const PictureKey> keys_of_pictures) {
  const MultimodalPrompt& prompt = request_.prompt;
  for (size_t i = 0; i < prompt.images_seq_mask.size(); ++i)
    if (prompt.images_seq_mask[i] != 0) vision_places_.push_back(static_cast<int32_t>(i));
  int64_t row = 0;
  for (size_t i = 0; i < prompt.images.size(); ++i) {
    const TiledImage& image = prompt.images[i];
    SequencePicture& p = pictures.emplace_back();
    p.first_row = row;
    p.rows = num_visual_tokens(image.tiles_wide, image.tiles_high, limits_.tokens_per_side);
    row += p.rows;
    p.end = vision_places_[static_cast<size_t>(row - 1)] + 1;
    if (!keys_of_pictures.empty()) p.key = keys_of_pictures[i];
    answer_.usage.tiles += image.num_tiles();
  }
  if (!pictures.empty()) encode_until = pictures.back().end;
}

std::vector<int32_t> Sequence::vision_places(int64_t count) const {
  const auto first = std::ranges::lower_bound(vision_places_, past);
  std::vector<int32_t> places(first, std::lower_bound(first, vision_places_.end(), past + count));
  for (int32_t& place : places) place -= static_cast<int32_t>(past);
  return places;
}

std::vector<VisionPart> Sequence::vision_parts(int64_t count) const {
  const auto row_at = [&](int64_t token) {
    return std::ranges::lower_bound(vision_places_, token) - vision_places_.begin();
  };
  const int64_t begin = row_at(past), end = row_at(past + count);
  std::vector<VisionPart> parts;
  for (const SequencePicture& p : pictures) {
    const int64_t first = std::max(begin, p.first_row), last = std::min(end, p.first_row + p.rows);
    if (first >= last) continue;
    VL2_CHECK(p.picture != nullptr && p.picture->encoded(), "a picture is run that has not been encoded");
    parts.push_back({p.picture->features_SD.row_range(first - p.first_row, last - first), first - begin});
  }
  return parts;
}

SequenceStats Sequence::stats() const {
  const auto generated = static_cast<int64_t>(answer_.ids.size());
  return {slot, prompt_tokens, std::min(past, prompt_tokens), generated, embeds ? 0 : max_new_tokens_ - generated};
}

int64_t Sequence::tiles_done() const {
  int64_t tiles = 0;
  for (size_t i = 0; i < pictures.size(); ++i)
    tiles += pictures[i].picture != nullptr ? pictures[i].picture->tiles_done : request_.prompt.images[i].num_tiles();
  return tiles;
}

double& Sequence::stage_ms() {
  switch (phase_) {
    case Phase::kQueue:
      return answer_.timings.queue_ms;
    case Phase::kVision:
      return answer_.timings.vision_ms;
    case Phase::kPrefill:
      return answer_.timings.prefill_ms;
    case Phase::kDecode:
      break;
  }
  return answer_.timings.decode_ms;
}

void Sequence::begin_phase(Phase next) {
  const Clock::time_point now = Clock::now();
  stage_ms() += milliseconds(now - phase_began_);
  phase_ = next;
  phase_began_ = now;
}

void Sequence::admitted() {
  if (!encoded()) return begin_phase(Phase::kVision);
  begin_prefill();
}

void Sequence::look_at_pictures() {
  if (phase_ == Phase::kVision && encoded()) begin_prefill();
}

void Sequence::saw(double ms) { answer_.timings.vision_step_ms = std::max(answer_.timings.vision_step_ms, ms); }

void Sequence::begin_prefill() {
  for (TiledImage& image : request_.prompt.images) image.pixels = {};
  begin_phase(Phase::kPrefill);
}

std::string Sequence::text_of(int32_t id) {
  if (!decoder_ || id == limits_.eos) return {};
  return stops_.push(decoder_->push(id));
}

// What was held back: an unfinished character, the beginning of a stop string.
std::string Sequence::rest_of_text() {
  if (!decoder_ || stops_.matched()) return {};
  std::string text = stops_.push(decoder_->finish());
  return text + stops_.finish();
}

void Sequence::draft(int64_t most, int64_t rows, const StepCost& cost) {
  draft_ = drafter_.draft(std::clamp<int64_t>(max_cached - past - 1, 0, most), rows, cost);
  drafts = static_cast<int64_t>(draft_.size());
}

void Sequence::drop_draft() {
  draft_.clear();
  drafts = 0;
}

void Sequence::ran(int64_t count, double ms) {
  if (!decoding()) answer_.timings.prefill_step_ms = std::max(answer_.timings.prefill_step_ms, ms);
  past += count - drafts;
  answer_.timings.drafted_tokens += drafts;
  if (decoding())
    for (SequencePicture& p : pictures) p.picture.reset();
}

bool Sequence::accept_drafted(int64_t index) {
  if (index >= drafts || draft_[static_cast<size_t>(index)] != ids_.back()) return false;
  ++past;
  ++answer_.timings.accepted_tokens;
  return true;
}

std::optional<ChoiceRule> Sequence::rule(int64_t ahead) const {
  if (constraint_) return std::nullopt;
  std::optional<ChoiceRule> rule = sampler_.rule(ahead);
  if (rule) rule->most_likely = std::min<int64_t>(request_.top_logprobs, limits_.vocab_size);
  return rule;
}

TokenEvent Sequence::next_event(const LogitRow& row) {
  TokenEvent event;
  if (row.values.empty()) {
    const ChosenId& chosen = row.chosen;
    const auto logprob = [&](float logit) { return static_cast<float>(logit - chosen.log_sum_exp); };
    sampler_.take(chosen.id);
    event.id = chosen.id;
    event.logprob = logprob(chosen.logit);
    for (const IdLogit& likely : chosen.most_likely) event.top.push_back({likely.id, logprob(likely.logit)});
    return event;
  }
  const std::span<const float> logits = row.values;
  event.id = sampler_.sample(logits, constraint_ ? &constraint_->allowed() : nullptr);
  if (constraint_) VL2_CHECK(constraint_->accept(event.id), "token {} was allowed", event.id);
  const double log_sum = log_sum_exp(logits);
  const auto logprob = [&](int32_t id) { return static_cast<float>(logits[static_cast<size_t>(id)] - log_sum); };
  event.logprob = logprob(event.id);
  if (request_.top_logprobs > 0)
    for (const int32_t id : largest_ids(logits, request_.top_logprobs)) event.top.push_back({id, logprob(id)});
  return event;
}

void Sequence::choose(const LogitRow& row) {
  try {
    chosen_ = next_event(row);
  } catch (...) {
    choice_error_ = std::current_exception();
  }
}

bool Sequence::sample(const LogitRow& row) {
  if (choice_error_) std::rethrow_exception(std::exchange(choice_error_, nullptr));
  TokenEvent event = chosen_ ? *std::exchange(chosen_, std::nullopt) : next_event(row);
  if (answer_.ids.empty()) {
    begin_phase(Phase::kDecode);
    last_token_ = phase_began_;
  } else {
    const Clock::time_point before = std::exchange(last_token_, Clock::now());
    answer_.timings.longest_pause_ms = std::max(answer_.timings.longest_pause_ms, milliseconds(last_token_ - before));
  }
  ids_.push_back(event.id);
  answer_.ids.push_back(event.id);
  drafter_.push(event.id);
  event.text = text_of(event.id);
  if (event.id == limits_.eos && !request_.ignore_eos) {
    reason_ = FinishReason::kStop;
  } else if (static_cast<int64_t>(answer_.ids.size()) >= max_new_tokens_) {
    reason_ = FinishReason::kLength;
  } else if (loops_ && loops_->push(event.id)) {
    reason_ = FinishReason::kRepetition;
  }
  if (reason_) event.text += rest_of_text();
  if (stops_.matched()) reason_ = FinishReason::kStopString;
  answer_.text += event.text;
  channel_->push(std::move(event));
  return reason_.has_value();
}

// Token by token and in double: the sum is the same however the prompt is cut into steps.
void Sequence::add_hidden(Tensor rows) {
  hidden_sum_.resize(static_cast<size_t>(rows.cols));
  for (int64_t row = 0, token = past - rows.rows; row < rows.rows; ++row, ++token) {
    if (token == 0 && prompt_tokens > 1 && ids_.front() == limits_.bos) continue;
    for (int64_t i = 0; i < rows.cols; ++i) hidden_sum_[static_cast<size_t>(i)] += rows.row(row)[i];
  }
  if (!std::all_of(hidden_sum_.begin(), hidden_sum_.end(), [](double sum) { return std::isfinite(sum); }))
    fail(ErrorCode::kCorrupt,
         "the model's hidden states are no numbers; its weights are damaged or too large for their type");
}

// Scaled to length 1, so the count of tokens drops out.
std::vector<float> Sequence::embedding() const {
  double squares = 0;
  for (const double sum : hidden_sum_) squares += sum * sum;
  const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
  std::vector<float> result;
  for (const double sum : hidden_sum_) result.push_back(static_cast<float>(sum * scale));
  return result;
}

Answer Sequence::finish(FinishReason reason, std::optional<Error> error) {
  begin_phase(phase_);
  answer_.finish = reason;
  if (embeds && reason == FinishReason::kStop) answer_.embedding = embedding();
  answer_.error = std::move(error);
  answer_.stop_string = stops_.matched();
  answer_.usage.cached_tokens = cached_tokens;
  answer_.usage.completion_tokens = static_cast<int64_t>(answer_.ids.size());
  return std::move(answer_);
}

}  // namespace vl2

#include "engine/runtime/engine_loop.h"

#include <algorithm>
#include <limits>

#include "engine/model/tiles_at_once.h"
#include "engine/runtime/current_error.h"
#include "engine/runtime/pause.h"

namespace vl2 {
namespace {

constexpr int64_t kWholeChunk = std::numeric_limits<int64_t>::max();  // as large as the scheduler's limits let it be

double milliseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

Sequence& sequence_of(const Scheduler::Slice& slice) { return static_cast<Sequence&>(*slice.sequence); }

}  // namespace

EngineLoop::EngineLoop(const EngineLoopParts& parts, const SequenceLimits& sequence_limits,
                       const SchedulerLimits& limits, int64_t picture_cache_bytes)
    : parts_(parts),
      sequence_limits_(sequence_limits),
      blocks_(parts.cache.num_blocks(), parts.cache.block_tokens()),
      scheduler_(limits, blocks_),
      pictures_(picture_cache_bytes),
      vision_(parts.model, pictures_) {
  publish();
}

void EngineLoop::run() {
  for (;;) {
    for (Submission& submission : parts_.queue.take(sequences_.empty())) accept(std::move(submission));
    if (parts_.queue.closed()) break;
    try {
      turn();
    } catch (...) {
      // Nothing a single request did: the next ones start from an empty cache.
      finish_all(FinishReason::kError, current_error());
      blocks_.forget_all();
    }
    publish();
  }
  for (Submission& submission : parts_.queue.take(false)) accept(std::move(submission));
  finish_all(FinishReason::kCancelled);
  publish();
}

void EngineLoop::accept(Submission submission) {
  const std::shared_ptr<TokenChannel> channel = submission.channel;
  try {
    auto sequence = std::make_unique<Sequence>(std::move(submission), sequence_limits_);
    scheduler_.add(*sequence);
    sequences_.push_back(std::move(sequence));
  } catch (...) {
    Answer answer;
    answer.error = current_error();
    answers_.emplace_back(channel, std::move(answer));
  }
}

void EngineLoop::turn() {
  retire_cancelled();
  admit();
  publish();
  StepReport report;
  // Answers wait for a few tiles or for a few tokens of prompts, never for both: these take turns.
  const bool answering = scheduler_.answering();
  const int64_t tiles = tiles_at_once(parts_.model.ops().on_host());
  if (!(answering && encoded_last_ && scheduler_.prompt_ready()))
    encode_pictures(answering ? tiles_beside_answers(tile_ms_, tiles) : tiles, report);
  encoded_last_ = report.tiles > 0;
  if (!answering)
    step(kWholeChunk, report);
  else
    step(encoded_last_ ? 0 : prompt_tokens_beside_answers(token_ms_, kWholeChunk), report);
  if (report.prefill_tokens >= kManyPromptTokens)
    token_ms_ = report.forward_ms / static_cast<double>(report.prefill_tokens);
  stats_.tiles += report.tiles;
  stats_.vision_ms += report.vision_ms;
  stats_.forward_ms += report.forward_ms;
  stats_.sample_ms += report.sample_ms;
  stats_.prompt_tokens += report.prefill_tokens;
  stats_.generated_tokens += report.sampled_tokens;
  stats_.drafted_tokens += report.drafted_tokens;
  stats_.accepted_tokens += report.accepted_tokens;
  const bool stepped = report.prefill_tokens + report.decode_tokens > 0;
  if (stepped) ++stats_.steps;
  if (parts_.observer != nullptr && (stepped || report.tiles > 0)) parts_.observer->on_step(report);
}

void EngineLoop::admit() {
  const std::vector<Schedulable*> admitted = scheduler_.admit();
  stats_.prefix_hit_tokens += scheduler_.pass_cached();
  for (Schedulable* s : admitted) {
    static_cast<Sequence*>(s)->slot = free_slot();
    static_cast<Sequence*>(s)->admitted();
    if (sequence_limits_.share_prefixes && !s->embeds) stats_.prefix_query_tokens += s->prompt_tokens;
  }
  for (Schedulable* s : scheduler_.running()) static_cast<Sequence*>(s)->look_at_pictures();
}

// Few are running: a search is as good as a list.
int64_t EngineLoop::free_slot() const {
  const auto& running = scheduler_.running();
  for (int64_t slot = 0;; ++slot)
    if (std::none_of(running.begin(), running.end(),
                     [slot](const Schedulable* s) { return static_cast<const Sequence*>(s)->slot == slot; }))
      return slot;
}

void EngineLoop::retire_cancelled() {
  std::vector<Sequence*> cancelled;
  for (const auto& s : sequences_)
    if (s->channel().cancelled()) cancelled.push_back(s.get());
  for (Sequence* s : cancelled) finish(*s, FinishReason::kCancelled);
}

void EngineLoop::encode_pictures(int64_t most_tiles, StepReport& report) {
  std::vector<Sequence*> sequences;
  for (Schedulable* s : scheduler_.to_encode()) sequences.push_back(static_cast<Sequence*>(s));
  if (sequences.empty()) return;
  vision_.look_up(sequences);
  std::vector<int64_t> done_before;
  for (const Sequence* s : sequences) done_before.push_back(s->tiles_done());
  const Clock::time_point begin = Clock::now();
  try {
    report.tiles = vision_.encode(sequences, most_tiles);
  } catch (...) {
    // One of them did it: each on its own, and only those that fail again are lost.
    for (Sequence*& s : sequences) {
      try {
        report.tiles += vision_.encode({&s, 1}, most_tiles);
      } catch (...) {
        finish(*s, FinishReason::kError, current_error());
        s = nullptr;
      }
    }
  }
  report.vision_ms = milliseconds_since(begin);
  if (report.tiles > 0) tile_ms_ = report.vision_ms / static_cast<double>(report.tiles);
  for (size_t i = 0; i < sequences.size(); ++i) {
    Sequence* s = sequences[i];
    if (s == nullptr) continue;
    const int64_t done = s->tiles_done();
    if (done > done_before[i]) s->saw(report.vision_ms);
    s->look_at_pictures();
    if (done > 0) report_progress(*s, Stage::kVision, done, s->num_tiles());
  }
}

// False where the callback threw, which ends its request.
bool EngineLoop::report_progress(Sequence& sequence, Stage stage, int64_t done, int64_t total) {
  try {
    if (sequence.request().progress) sequence.request().progress(stage, done, total);
    return true;
  } catch (...) {
    finish(sequence, FinishReason::kError, current_error());
    return false;
  }
}

// First come, first served. A step has few drafts, so that one sequence does not slow down the others.
void EngineLoop::draft() {
  std::vector<Sequence*> decoding;
  for (Schedulable* s : scheduler_.running())
    if (s->decoding()) decoding.push_back(static_cast<Sequence*>(s));
  int64_t left = kMostDrafts;
  for (Sequence* s : decoding) {
    s->draft(left, static_cast<int64_t>(decoding.size()), cost_);
    left -= s->drafts;
  }
}

void EngineLoop::step(int64_t most_prompt_tokens, StepReport& report) {
  draft();
  const std::vector<Scheduler::Slice> slices = scheduler_.next_step(most_prompt_tokens);
  if (!slices.empty()) run_slices(slices, report);
}

void EngineLoop::run_slices(std::span<const Scheduler::Slice> slices, StepReport& report) {
  Workspace::Scope scope(parts_.model.ops().workspace());
  const Clock::time_point begin = Clock::now();
  Output output;
  try {
    output = forward(slices);
  } catch (...) {
    report.forward_ms += milliseconds_since(begin);
    if (slices.size() == 1 && slices.front().sequence->drafts == 0) {
      finish(sequence_of(slices.front()), FinishReason::kError, current_error());
    } else {
      // Nothing has moved on yet: each on its own and without drafts, and only those that fail again are lost.
      for (Scheduler::Slice slice : slices) {
        slice.count -= slice.sequence->drafts;
        sequence_of(slice).drop_draft();
        run_slices({&slice, 1}, report);
      }
    }
    return;
  }
  const double forward_ms = milliseconds_since(begin);
  report.forward_ms += forward_ms;
  int64_t rows = 0;
  for (const Scheduler::Slice& slice : slices) rows += slice.count;
  if (std::all_of(slices.begin(), slices.end(), [](const auto& slice) { return slice.sequence->decoding(); }))
    cost_.measured(rows, forward_ms);
  after_forward(slices, output, forward_ms, report);
}

EngineLoop::Output EngineLoop::forward(std::span<const Scheduler::Slice> slices) {
  std::vector<int32_t> ids, logit_rows, hidden_rows;
  std::vector<SequenceSlice> sequences;
  std::vector<std::vector<int32_t>> places;  // of each sequence's vision tokens in the batch
  std::vector<VisionRows> vision;
  places.reserve(slices.size());
  for (const Scheduler::Slice& slice : slices) {
    const Sequence& s = sequence_of(slice);
    const auto begin = static_cast<int32_t>(ids.size());
    sequences.push_back({begin, slice.count, s.past, s.blocks, s.decoding()});
    ids.insert(ids.end(), s.ids().begin() + s.past, s.ids().begin() + s.past + slice.count - s.drafts);
    ids.insert(ids.end(), s.drafted().begin(), s.drafted().end());
    std::vector<int32_t>& rows = places.emplace_back(s.vision_places(slice.count));
    for (int32_t& row : rows) row += begin;
    for (const VisionPart& part : s.vision_parts(slice.count))
      vision.push_back({part.features, std::span<const int32_t>(rows).subspan(
                                           static_cast<size_t>(part.first), static_cast<size_t>(part.features.rows))});
    for (int64_t row = slice.hidden_rows(); row > 0; --row)
      hidden_rows.push_back(static_cast<int32_t>(static_cast<int64_t>(ids.size()) - row));
    for (int64_t row = slice.logit_rows(); row > 0; --row)
      logit_rows.push_back(static_cast<int32_t>(static_cast<int64_t>(ids.size()) - row));
  }
  const DeepseekVl2& model = parts_.model;
  Workspace& memory = model.ops().workspace();
  Tensor logits = memory.tensor(static_cast<int64_t>(logit_rows.size()), sequence_limits_.vocab_size);
  Tensor hidden = memory.tensor(static_cast<int64_t>(hidden_rows.size()), model.config().language.hidden_size);
  model.forward(ids, vision, {sequences, logit_rows, hidden_rows, hidden}, parts_.cache, logits);
  Output output;
  fetch_logits(slices, logits, output);
  output.hidden = model.ops().to_host(hidden);
  return output;
}

// From a device only what the choices take: a row is as long as the vocabulary.
void EngineLoop::fetch_logits(std::span<const Scheduler::Slice> slices, Tensor logits, Output& output) const {
  Ops& ops = parts_.model.ops();
  const auto whole = [&](Tensor rows) {
    const Tensor values = output.fetched.emplace_back(ops.to_host(rows)).values;
    for (int64_t r = 0; r < values.rows; ++r)
      output.logits.push_back({{values.row(r), static_cast<size_t>(values.cols)}});
  };
  if (ops.on_host()) return whole(logits);
  std::vector<std::pair<const Sequence*, int64_t>> rows;
  for (const Scheduler::Slice& slice : slices)
    for (int64_t ahead = 0; ahead < slice.logit_rows(); ++ahead) rows.emplace_back(&sequence_of(slice), ahead);
  std::vector<ChoiceRule> rules(rows.size());
  std::vector<char> has_rule(rows.size());
  ops.on_host_threads(std::ssize(rows), [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    std::optional<ChoiceRule> rule = rows[at].first->rule(rows[at].second);
    has_rule[at] = rule.has_value() ? 1 : 0;
    rules[at] = std::move(rule).value_or(ChoiceRule{});
  });
  std::vector<ChosenId> chosen(rules.size());
  ops.choose_ids(chosen, logits, rules, sequence_limits_.num_ids());
  int64_t row = 0;
  for (const Scheduler::Slice& slice : slices) {
    const int64_t end = row + slice.logit_rows();
    bool known = true;
    // Where none could be chosen, the row is fetched for the error that says why.
    for (auto r = static_cast<size_t>(row); r < static_cast<size_t>(end); ++r)
      known = known && has_rule[r] != 0 && chosen[r].id >= 0;
    if (known)
      for (; row < end; ++row) output.logits.push_back({{}, std::move(chosen[static_cast<size_t>(row)])});
    else
      whole(logits.row_range(row, end - row));
    row = end;
  }
}

void EngineLoop::after_forward(std::span<const Scheduler::Slice> slices, const Output& output, double forward_ms,
                               StepReport& report) {
  const Clock::time_point begin = Clock::now();
  const std::span<const LogitRow> logits = output.logits;
  for (const HostTensor& rows : output.fetched) report.fetched_logits += std::ssize(rows.memory);
  choose(slices, logits);
  int64_t row = 0, hidden_row = 0;
  for (const Scheduler::Slice& slice : slices) {
    Sequence& s = sequence_of(slice);
    const bool samples = slice.samples(), decoding = s.decoding();
    const int64_t logit_rows = slice.logit_rows(), hidden_rows = slice.hidden_rows();
    (decoding ? report.decode_tokens : report.prefill_tokens) += slice.count;
    report.drafted_tokens += s.drafts;
    s.ran(slice.count, forward_ms);
    if (!decoding) scheduler_.filled(s, s.past - slice.count);
    row += logit_rows;
    hidden_row += hidden_rows;
    if (!decoding && s.cached_tokens > 0 && !report_progress(s, Stage::kCached, s.cached_tokens, s.prompt_tokens))
      continue;
    if (!decoding && !report_progress(s, Stage::kPrefill, s.past, s.prompt_tokens)) continue;
    if (samples)
      sample_rows(s, logits.subspan(static_cast<size_t>(row - logit_rows), static_cast<size_t>(logit_rows)), report);
    if (hidden_rows > 0) embed(s, output.hidden.values.row_range(hidden_row - hidden_rows, hidden_rows));
  }
  report.sample_ms += milliseconds_since(begin);
}

// The next token of every sequence, side by side: a pass over a vocabulary takes a while. What follows a draft depends
// on it, and is chosen in its turn.
void EngineLoop::choose(std::span<const Scheduler::Slice> slices, std::span<const LogitRow> logits) {
  std::vector<std::pair<Sequence*, int64_t>> rows;
  int64_t row = 0;
  for (const Scheduler::Slice& slice : slices) {
    if (slice.samples()) rows.emplace_back(&sequence_of(slice), row);
    row += slice.logit_rows();
  }
  parts_.model.ops().on_host_threads(static_cast<int64_t>(rows.size()), [&](int64_t i) {
    const auto [sequence, at] = rows[static_cast<size_t>(i)];
    sequence->choose(logits[static_cast<size_t>(at)]);
  });
}

void EngineLoop::embed(Sequence& sequence, Tensor hidden) {
  try {
    sequence.add_hidden(hidden);
    if (sequence.past >= sequence.prompt_tokens) finish(sequence, FinishReason::kStop);
  } catch (...) {
    finish(sequence, FinishReason::kError, current_error());
  }
}

// Row by row, as if each had been a step of its own; those behind a token that was not drafted mean nothing. What they
// left in the cache is overwritten before anybody reads it.
void EngineLoop::sample_rows(Sequence& sequence, std::span<const LogitRow> logits, StepReport& report) {
  for (size_t row = 0; row < logits.size(); ++row) {
    ++report.sampled_tokens;
    if (!sample(sequence, logits[row])) return;
    if (!sequence.accept_drafted(static_cast<int64_t>(row))) return;
    ++report.accepted_tokens;
  }
}

// False: the answer is complete, and the sequence gone.
bool EngineLoop::sample(Sequence& sequence, const LogitRow& row) {
  try {
    if (!sequence.sample(row)) return true;
    finish(sequence, sequence.finish_reason());
  } catch (...) {
    finish(sequence, FinishReason::kError, current_error());
  }
  return false;
}

void EngineLoop::finish(Sequence& sequence, FinishReason reason, std::optional<Error> error) {
  scheduler_.remove(sequence);
  Answer answer = sequence.finish(reason, std::move(error));
  if (parts_.observer != nullptr) parts_.observer->on_finish(answer);
  ++stats_.finished;
  const auto at =
      std::find_if(sequences_.begin(), sequences_.end(), [&](const auto& s) { return s.get() == &sequence; });
  answers_.emplace_back((*at)->shared_channel(), std::move(answer));
  sequences_.erase(at);
}

void EngineLoop::finish_all(FinishReason reason, const std::optional<Error>& error) {
  while (!sequences_.empty()) finish(*sequences_.back(), reason, error);
}

// The numbers first, so that whoever has an answer finds it counted.
void EngineLoop::publish() {
  stats_.waiting = static_cast<int64_t>(scheduler_.waiting().size());
  stats_.running = static_cast<int64_t>(scheduler_.running().size());
  stats_.sequences.clear();
  for (const Schedulable* s : scheduler_.running())
    stats_.sequences.push_back(static_cast<const Sequence*>(s)->stats());
  stats_.cache_blocks_used = blocks_.num_used();
  stats_.cache_blocks_remembered = blocks_.num_remembered();
  stats_.cache_blocks_total = blocks_.num_blocks();
  stats_.picture_queries = pictures_.queries();
  stats_.picture_hits = pictures_.hits();
  stats_.picture_bytes = pictures_.bytes();
  parts_.board.publish(stats_);
  for (auto& [channel, answer] : answers_) channel->finish(std::move(answer));
  answers_.clear();
}

}  // namespace vl2

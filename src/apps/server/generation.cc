#include "apps/server/generation.h"

#include <algorithm>
#include <utility>

#include "apps/server/api_error.h"
#include "apps/server/request_log.h"

namespace vl2::server {
namespace {

// How often a thread without tokens looks whether its client is still there. Several choices wait for the first of them
// only, so the others may come this much later.
constexpr std::chrono::milliseconds kLook{25}, kLookAtSeveral{4};

double seconds(std::chrono::steady_clock::duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

std::vector<Request> make_requests(const ServerContext& server, MultimodalPrompt prompt, const AnswerParams& params,
                                   uint64_t seed) {
  std::vector<Request> requests;
  for (int64_t i = 0; i < params.n; ++i) {
    Request request;
    if (i > 0) request.prompt = prompt;
    request.sampling = params.sampling;
    request.sampling.seed = seed_of_choice(seed, i);
    request.max_new_tokens = params.max_tokens.value_or(server.options().default_max_tokens);
    request.stop = params.stop;
    request.ignore_eos = params.ignore_eos;
    request.detect_loops = params.detect_loops;
    request.constraint = params.constraint;
    request.top_logprobs = params.top_logprobs;
    requests.push_back(std::move(request));
  }
  if (!requests.empty()) requests.front().prompt = std::move(prompt);  // megabytes of pixels
  return requests;
}

Generation::Generation(RouteCall& call, std::unique_ptr<ServerContext::Ticket> ticket, std::vector<Request> requests,
                       int64_t choices, bool progress)
    : call_(call), choices_of_a_prompt_(static_cast<size_t>(choices)), left_(requests.size()) {
  charge_prompts(requests);
  if (call.server.options().log_prompts) note_prompts(requests);
  call.http.release_body();
  const std::shared_ptr<void> lease = std::move(ticket);
  for (Request& request : requests) {
    request.lease = lease;
    Choice choice;
    choice.last_token = Clock::now();
    if (progress) {
      choice.progress = std::make_shared<SharedProgress>();
      request.progress = [shared = choice.progress](Stage stage, int64_t done, int64_t total) {
        if (stage == Stage::kCached) shared->cached = done;
        if (stage != Stage::kPrefill) return;
        shared->total = total;
        shared->processed = done;
      };
    }
    choice.stream = call.server.engine().submit(std::move(request));
    choices_.push_back(std::move(choice));
  }
  call.notes.answers = static_cast<int64_t>(choices_.size());
}

Generation::~Generation() {
  cancel();
  for (Choice& choice : choices_)
    if (call_.server.options().log_prompts) call_.notes.texts.push_back(std::move(choice.text));
}

void Generation::charge_prompts(const std::vector<Request>& requests) const {
  if (call_.notes.limited_as.empty()) return;
  int64_t tokens = 0;
  for (size_t i = 0; i < requests.size(); i += choices_of_a_prompt_)
    tokens += static_cast<int64_t>(requests[i].prompt.input_ids.size());
  call_.server.limiter().take_prompt(call_.notes.limited_as, tokens);
}

void Generation::note_prompts(const std::vector<Request>& requests) const {
  for (size_t i = 0; i < requests.size(); i += choices_of_a_prompt_)
    call_.notes.prompts.push_back(prompt_text(call_.server.engine().tokenizer(), requests[i].prompt));
}

void Generation::cancel() {
  for (Choice& choice : choices_) {
    if (choice.done) continue;
    choice.stream->cancel();
    choice.done = true;
    call_.server.metrics().count_cancelled();
  }
}

bool Generation::run(const Reader& reader) {
  Clock::time_point last = Clock::now();
  while (left_ > 0) {
    if (call_.http.client_gone()) {
      call_.notes.finish = "client_gone";
      cancel();
      return false;
    }
    if (call_.server.stopping()) throw ApiError(503, "the server is shutting down", "shutting_down");
    bool progress = false;
    for (size_t i = 0; i < choices_.size(); ++i) progress |= step(i, reader);
    if (progress) {
      last = Clock::now();
    } else if (Clock::now() - last >= call_.server.options().ping_time) {
      if (reader.idle) reader.idle();
      last = Clock::now();
    } else {
      wait();
    }
  }
  return true;
}

void Generation::wait() const {
  const auto first = std::find_if(choices_.begin(), choices_.end(), [](const Choice& c) { return !c.done; });
  // Never past the next ping.
  const auto look = std::min(left_ > 1 ? kLookAtSeveral : kLook, call_.server.options().ping_time);
  first->stream->wait_for(look);
}

bool Generation::tell_progress(size_t index, const Reader& reader) {
  Choice& choice = choices_[index];
  if (choice.progress == nullptr || !reader.progress) return false;
  const int64_t processed = choice.progress->processed;
  if (processed == choice.told) return false;
  choice.told = processed;
  reader.progress(index,
                  {choice.progress->total, choice.progress->cached, processed, seconds(Clock::now() - begin_) * 1000});
  return true;
}

bool Generation::step(size_t index, const Reader& reader) {
  Choice& choice = choices_[index];
  if (choice.done) return false;
  // In this order: what the engine said before a token is told before it.
  const bool ready = choice.stream->wait_for(std::chrono::milliseconds(0));
  const bool told = tell_progress(index, reader);
  if (!ready) return told;
  std::optional<TokenEvent> event;
  try {
    event = choice.stream->next();
  } catch (...) {
    choice.done = true;
    --left_;
    throw;
  }
  if (!event) {
    finish(index, reader);
    return true;
  }
  if (!call_.notes.limited_as.empty()) call_.server.limiter().spend(call_.notes.limited_as, 1);
  if (call_.server.options().log_prompts) choice.text += event->text;
  const Clock::time_point now = Clock::now();
  Metrics& metrics = call_.server.metrics();
  choice.begun ? metrics.between_tokens(seconds(now - choice.last_token))
               : metrics.first_token(seconds(now - choice.last_token));
  choice.begun = true;
  choice.last_token = now;
  if (reader.token) reader.token(index, *event);
  return true;
}

Usage Generation::usage() const {
  Usage sum;
  for (size_t begin = 0; begin < choices_.size(); begin += choices_of_a_prompt_) {
    Usage prompt;
    for (size_t i = begin; i < std::min(begin + choices_of_a_prompt_, choices_.size()); ++i) {
      const Usage& one = choices_[i].usage;
      sum.completion_tokens += one.completion_tokens;
      if (one.prompt_tokens == 0) continue;  // not complete
      // The least of them: choices find in the cache what another one of them has just put there.
      const bool first = prompt.prompt_tokens == 0;
      const int64_t cached = first ? one.cached_tokens : std::min(prompt.cached_tokens, one.cached_tokens);
      prompt = one;
      prompt.cached_tokens = cached;
    }
    sum.prompt_tokens += prompt.prompt_tokens;
    sum.vision_tokens += prompt.vision_tokens;
    sum.cached_tokens += prompt.cached_tokens;
    sum.tiles += prompt.tiles;
  }
  return sum;
}

void Generation::finish(size_t index, const Reader& reader) {
  Choice& choice = choices_[index];
  const Answer& answer = choice.stream->answer();
  choice.done = true;
  --left_;
  if (answer.finish == FinishReason::kCancelled) throw ApiError(503, "the server is shutting down", "shutting_down");
  call_.server.metrics().count_answer(answer.usage);
  choice.usage = answer.usage;
  const Usage sum = usage();
  RequestNotes& notes = call_.notes;
  notes.prompt_tokens = sum.prompt_tokens;
  notes.image_tokens = sum.vision_tokens;
  notes.cached_tokens = sum.cached_tokens;
  notes.completion_tokens = sum.completion_tokens;
  notes.tiles = sum.tiles;
  notes.vision_ms = std::max(notes.vision_ms, answer.timings.vision_ms);
  notes.prefill_ms = std::max(notes.prefill_ms, answer.timings.prefill_ms);
  notes.queue_ms = std::max(notes.queue_ms, answer.timings.queue_ms);
  notes.first_token_ms = std::max(notes.first_token_ms, answer.timings.first_token_ms());
  notes.decode_ms = std::max(notes.decode_ms, answer.timings.decode_ms);
  notes.longest_pause_ms = std::max(notes.longest_pause_ms, answer.timings.longest_pause_ms);
  notes.finish = finish_reason_name(answer.finish);
  reader.finish(index, answer);
}

}  // namespace vl2::server

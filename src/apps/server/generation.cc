#include "apps/server/generation.h"

#include <algorithm>
#include <utility>

#include "apps/server/api_error.h"

namespace vl2::server {
namespace {

// How often a thread without tokens looks whether its client is still there. Several choices wait for the first of them
// only, so the others may come this much later.
constexpr std::chrono::milliseconds kLook{25}, kLookAtSeveral{4};

double seconds(std::chrono::steady_clock::duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

std::vector<Request> make_requests(const ServerContext& server, const MultimodalPrompt& prompt,
                                   const AnswerParams& params, uint64_t seed) {
  std::vector<Request> requests;
  for (int64_t i = 0; i < params.n; ++i) {
    Request request;
    request.prompt = prompt;
    request.sampling = params.sampling;
    request.sampling.seed = seed_of_choice(seed, i);
    request.max_new_tokens = params.max_tokens.value_or(server.options().default_max_tokens);
    request.stop = params.stop;
    request.ignore_eos = params.ignore_eos;
    request.top_logprobs = params.top_logprobs;
    requests.push_back(std::move(request));
  }
  return requests;
}

Generation::Generation(RouteCall& call, std::unique_ptr<ServerContext::Ticket> ticket, std::vector<Request> requests)
    : call_(call), ticket_(std::move(ticket)), left_(requests.size()) {
  call.http.release_body();
  for (Request& request : requests) {
    Choice choice;
    choice.last_token = Clock::now();
    choice.stream = call.server.engine().submit(std::move(request));
    choices_.push_back(std::move(choice));
  }
  call.notes.answers = static_cast<int64_t>(choices_.size());
}

Generation::~Generation() { cancel(); }

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

bool Generation::step(size_t index, const Reader& reader) {
  Choice& choice = choices_[index];
  if (choice.done || !choice.stream->wait_for(std::chrono::milliseconds(0))) return false;
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
  const Clock::time_point now = Clock::now();
  Metrics& metrics = call_.server.metrics();
  choice.begun ? metrics.between_tokens(seconds(now - choice.last_token))
               : metrics.first_token(seconds(now - choice.last_token));
  choice.begun = true;
  choice.last_token = now;
  reader.token(index, *event);
  return true;
}

void Generation::finish(size_t index, const Reader& reader) {
  Choice& choice = choices_[index];
  const Answer& answer = choice.stream->answer();
  choice.done = true;
  --left_;
  if (answer.finish == FinishReason::kCancelled) throw ApiError(503, "the server is shutting down", "shutting_down");
  call_.server.metrics().count_answer(answer.usage);
  usage_.prompt_tokens += answer.usage.prompt_tokens;
  usage_.vision_tokens += answer.usage.vision_tokens;
  usage_.tiles += answer.usage.tiles;
  usage_.completion_tokens += answer.usage.completion_tokens;
  RequestNotes& notes = call_.notes;
  notes.prompt_tokens = usage_.prompt_tokens;
  notes.image_tokens = usage_.vision_tokens;
  notes.completion_tokens = usage_.completion_tokens;
  notes.queue_ms = std::max(notes.queue_ms, answer.timings.queue_ms);
  notes.first_token_ms = std::max(notes.first_token_ms, answer.timings.first_token_ms());
  notes.decode_ms = std::max(notes.decode_ms, answer.timings.decode_ms);
  notes.finish = finish_reason_name(answer.finish);
  reader.finish(index, answer);
}

}  // namespace vl2::server

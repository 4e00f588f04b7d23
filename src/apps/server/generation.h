// The answers of one request: let in, submitted, and read as they come, until they are complete or nobody is there to
// read them any more.
//
// Lives on the thread of its request. Dropping it cancels what is unfinished.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/server/api_sampling.h"
#include "apps/server/context.h"
#include "apps/server/route.h"

namespace vl2::server {

// The requests of `n` choices over one prompt.
std::vector<Request> make_requests(const ServerContext& server, MultimodalPrompt prompt, const AnswerParams& params,
                                   uint64_t seed);

// How much of a prompt has been run.
struct PromptProgress {
  int64_t total = 0;
  int64_t cached = 0;       // tokens that were in the cache
  int64_t processed = 0;    // those run so far, and the cached ones
  double milliseconds = 0;  // since the request was submitted
};

class Generation {
 public:
  // The tokens of the prompts are taken from the client's limit. The ticket is for as many answers as there are
  // requests, `choices` of them over each prompt; it is given back when the engine is done with them, however long
  // their client takes to read; nullptr where the caller holds it. `progress`: Reader::progress is wanted. ApiError
  // 400: what the engine refuses; 413, 429: the limit.
  Generation(RouteCall& call, std::unique_ptr<ServerContext::Ticket> ticket, std::vector<Request> requests,
             int64_t choices, bool progress = false);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // What comes, in order for each choice; all but `finish` may be left out. `token` comes with each token, `finish`
  // once at the end of a choice, `idle` after each ping_time of silence, `progress` before the first token, when there
  // is some.
  struct Reader {
    std::function<void(size_t choice, const TokenEvent& event)> token;
    std::function<void(size_t choice, const Answer& answer)> finish;
    std::function<void()> idle;
    std::function<void(size_t choice, const PromptProgress& progress)> progress;
  };
  // False: the client is gone, and the answers are cancelled. Throws the Error of an answer that fails, and ApiError
  // 503 when the server ends.
  bool run(const Reader& reader);

  // Of the answers that are complete; each prompt counts once.
  Usage usage() const;
  size_t size() const { return choices_.size(); }

 private:
  using Clock = std::chrono::steady_clock;
  // The engine's thread writes, the request's reads.
  struct SharedProgress {
    std::atomic<int64_t> cached{0}, processed{0}, total{0};
  };
  struct Choice {
    std::shared_ptr<TokenStream> stream;
    Clock::time_point last_token;
    bool begun = false, done = false;
    std::string text;  // if it is logged
    Usage usage;
    std::shared_ptr<SharedProgress> progress;  // if it is wanted
    int64_t told = 0;                          // of progress->processed
  };
  void charge_prompts(const std::vector<Request>& requests) const;
  void note_prompts(const std::vector<Request>& requests) const;
  bool step(size_t index, const Reader& reader);  // false: there is nothing to read
  void finish(size_t index, const Reader& reader);
  bool tell_progress(size_t index, const Reader& reader);
  void wait() const;
  void cancel();

  RouteCall& call_;
  std::vector<Choice> choices_;
  const size_t choices_of_a_prompt_;
  size_t left_;
  const Clock::time_point begin_ = Clock::now();
};

}  // namespace vl2::server

// A conversation on its way through the engine, whichever API it came by: routes parse requests and write replies, what
// lies between is here.
//
// Lives on the thread of its request. Dropping it cancels what is unfinished.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "apps/server/api_chat.h"
#include "apps/server/api_reply.h"
#include "apps/server/generation.h"

namespace vl2::server {

class ChatRun {
 public:
  // Compiles the form, lets the request in, loads its pictures, builds the prompt and submits. ApiError: whatever of
  // that cannot be; what costs little is looked at first.
  ChatRun(RouteCall& call, AnswerParams params, ChatMessages chat);

  // Generation::run().
  bool run(const Generation::Reader& reader);

  const AnswerParams& params() const { return params_; }
  size_t size() const { return generation_->size(); }
  Usage usage() const { return generation_->usage(); }
  int64_t prompt_tokens() const { return prompt_tokens_; }  // known before the first token
  // What a choice locates on the last picture; empty without one.
  nlohmann::ordered_json grounding(size_t choice, std::string_view text) const;

 private:
  RouteCall& call_;
  AnswerParams params_;
  std::optional<ImageSize> picture_;  // the last one: it is the one boxes are about
  int64_t num_pictures_ = 0, prompt_tokens_ = 0;
  std::vector<ScoredTokens> tokens_;
  std::optional<Generation> generation_;
};

// Tokens of the prompt a conversation becomes; nothing is run.
int64_t count_prompt_tokens(RouteCall& call, ChatMessages chat, bool allow_special);

}  // namespace vl2::server

// The parts replies are made of: usage, timings, log-probabilities, located things. Pure functions: any thread.
#pragma once

#include <ctime>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/image/image.h"
#include "core/text/tokenizer.h"
#include "engine/runtime/request.h"

namespace vl2::server {

const char* openai_finish_reason(FinishReason reason);  // "stop" or "length"

// finish_reason of a choice, and where that says too little finish_details: {"type": "repetition"}.
void add_finish(FinishReason reason, nlohmann::ordered_json& choice);

nlohmann::ordered_json usage_json(const Usage& usage);

nlohmann::ordered_json timings_json(const Answer& answer);

// {"token", "logprob", "bytes", "top_logprobs"}; probabilities below what a float tells apart are -9999.
nlohmann::ordered_json logprob_json(const Tokenizer& tokenizer, const TokenEvent& event);

// The text of one token; where its bytes are no text, with U+FFFD.
std::string token_string(const Tokenizer& tokenizer, int32_t id);
float finite_logprob(float value);

// The tokens of an answer as they come, for the scores of its boxes.
struct ScoredTokens {
  std::vector<int32_t> ids;
  std::vector<float> logprobs;
  void push(const TokenEvent& event) {
    ids.push_back(event.id);
    logprobs.push_back(event.logprob);
  }
};

// What the answer locates on the last picture: [{"label", "image_index", "box_norm", "box_px", "score"}]. `text`: what
// of the answer is shown; a stop string may have cut it short.
nlohmann::ordered_json grounding_json(std::string_view text, const Tokenizer& tokenizer, const ScoredTokens& tokens,
                                      ImageSize picture, int64_t image_index);

// "data: JSON\n\n"
std::string sse_event(const nlohmann::ordered_json& value);
// "event: TYPE\ndata: JSON\n\n", by the value's "type"
std::string sse_typed_event(const nlohmann::ordered_json& value);
// 2026-01-31T12:00:00Z
std::string rfc3339(std::time_t time);
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";
inline constexpr std::string_view kSsePing = ": ping\n\n";

}  // namespace vl2::server

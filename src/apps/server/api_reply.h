// The parts replies are made of: usage, timings, log-probabilities, located things. Pure functions: any thread.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "core/image/image.h"
#include "core/text/tokenizer.h"
#include "engine/runtime/request.h"

namespace vl2::server {

const char* openai_finish_reason(FinishReason reason);  // "stop" or "length"

// `prompts`: how many prompts the sums in `usage` are of; every choice of one prompt has counted it.
nlohmann::ordered_json usage_json(const Usage& usage, int64_t choices_of_a_prompt);

nlohmann::ordered_json timings_json(const Answer& answer);

// {"token", "logprob", "bytes", "top_logprobs"}; probabilities below what a float tells apart are -9999.
nlohmann::ordered_json logprob_json(const Tokenizer& tokenizer, const TokenEvent& event);

// The text of one token; where its bytes are no text, with U+FFFD.
std::string token_string(const Tokenizer& tokenizer, int32_t id);
float finite_logprob(float value);

// What the answer locates on the last picture: [{"label", "image_index", "box_norm", "box_px"}].
nlohmann::ordered_json grounding_json(std::string_view answer, ImageSize picture, int64_t image_index);

// "data: JSON\n\n"
std::string sse_event(const nlohmann::ordered_json& value);
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";
inline constexpr std::string_view kSsePing = ": ping\n\n";

}  // namespace vl2::server

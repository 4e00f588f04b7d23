#include "apps/server/api_reply.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/server/api_error.h"
#include "core/text/grounding.h"
#include "core/text/utf8.h"

namespace vl2::server {
namespace {

using nlohmann::ordered_json;

constexpr float kImpossible = -9999.0F;

// Short in JSON: thousandths say enough.
double rounded(double value) { return std::round(value * 1000) / 1000; }

ordered_json one_logprob(const Tokenizer& tokenizer, int32_t id, float logprob) {
  ordered_json bytes = ordered_json::array();
  for (const char c : tokenizer.token_text(id)) bytes.push_back(static_cast<int>(static_cast<unsigned char>(c)));
  return {{"token", token_string(tokenizer, id)}, {"logprob", finite_logprob(logprob)}, {"bytes", std::move(bytes)}};
}

}  // namespace

const char* openai_finish_reason(FinishReason reason) { return reason == FinishReason::kLength ? "length" : "stop"; }

ordered_json usage_json(const Usage& usage, int64_t choices_of_a_prompt) {
  const int64_t prompt = usage.prompt_tokens / choices_of_a_prompt;
  return {
      {"prompt_tokens", prompt},
      {"completion_tokens", usage.completion_tokens},
      {"total_tokens", prompt + usage.completion_tokens},
      {"prompt_tokens_details", {{"cached_tokens", 0}, {"image_tokens", usage.vision_tokens / choices_of_a_prompt}}},
      {"completion_tokens_details", {{"reasoning_tokens", 0}}}};
}

ordered_json timings_json(const Answer& answer) {
  const Timings& t = answer.timings;
  ordered_json out = {{"queue_ms", rounded(t.queue_ms)},     {"vision_ms", rounded(t.vision_ms)},
                      {"prefill_ms", rounded(t.prefill_ms)}, {"decode_ms", rounded(t.decode_ms)},
                      {"total_ms", rounded(t.total_ms())},   {"tiles", answer.usage.tiles},
                      {"drafted_tokens", t.drafted_tokens},  {"accepted_tokens", t.accepted_tokens}};
  return out;
}

float finite_logprob(float value) { return std::isfinite(value) ? std::max(value, kImpossible) : kImpossible; }

std::string token_string(const Tokenizer& tokenizer, int32_t id) { return repair_utf8(tokenizer.token_text(id)); }

ordered_json logprob_json(const Tokenizer& tokenizer, const TokenEvent& event) {
  ordered_json out = one_logprob(tokenizer, event.id, event.logprob);
  out["top_logprobs"] = ordered_json::array();
  for (const TokenLogprob& top : event.top) out["top_logprobs"].push_back(one_logprob(tokenizer, top.id, top.logprob));
  return out;
}

ordered_json grounding_json(std::string_view answer, ImageSize picture, int64_t image_index) {
  ordered_json out = ordered_json::array();
  for (const GroundedObject& object : parse_grounding(answer).objects)
    for (const Box& box : object.boxes) {
      const PixelBox pixels = decode_box(box, picture.width, picture.height);
      out.push_back({{"label", object.label},
                     {"image_index", image_index},
                     {"box_norm", {box.x1, box.y1, box.x2, box.y2}},
                     {"box_px", {rounded(pixels.x1), rounded(pixels.y1), rounded(pixels.x2), rounded(pixels.y2)}}});
    }
  return out;
}

std::string sse_event(const ordered_json& value) { return "data: " + dump_json(value) + "\n\n"; }

}  // namespace vl2::server

#include "apps/server/api_reply.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/server/api_error.h"
#include "core/text/grounding.h"
#include "core/text/utf8.h"
#include "engine/constrain/grounding_score.h"

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

const char* openai_finish_reason(FinishReason reason) {
  return reason == FinishReason::kLength || reason == FinishReason::kRepetition ? "length" : "stop";
}

void add_finish(FinishReason reason, ordered_json& choice) {
  choice["finish_reason"] = openai_finish_reason(reason);
  if (reason == FinishReason::kRepetition) choice["finish_details"] = {{"type", "repetition"}};
}

ordered_json usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}, {"image_tokens", usage.vision_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", 0}}}};
}

ordered_json timings_json(const Answer& answer) {
  const Timings& t = answer.timings;
  ordered_json out = {{"queue_ms", rounded(t.queue_ms)},
                      {"vision_ms", rounded(t.vision_ms)},
                      {"vision_step_ms", rounded(t.vision_step_ms)},
                      {"prefill_ms", rounded(t.prefill_ms)},
                      {"prefill_step_ms", rounded(t.prefill_step_ms)},
                      {"decode_ms", rounded(t.decode_ms)},
                      {"longest_pause_ms", rounded(t.longest_pause_ms)},
                      {"total_ms", rounded(t.total_ms())},
                      {"tiles", answer.usage.tiles},
                      {"drafted_tokens", t.drafted_tokens},
                      {"accepted_tokens", t.accepted_tokens}};
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

ordered_json grounding_json(std::string_view text, const Tokenizer& tokenizer, const ScoredTokens& tokens,
                            ImageSize picture, int64_t image_index) {
  ordered_json out = ordered_json::array();
  const std::vector<GroundedObject> objects = parse_grounding(text).objects;
  if (objects.empty()) return out;
  // The text is where the tokens' text begins, so its boxes are their first ones.
  const std::vector<ScoredObject> scored = score_grounding(tokenizer, tokens.ids, tokens.logprobs);
  for (size_t i = 0; i < objects.size(); ++i)
    for (size_t j = 0; j < objects[i].boxes.size(); ++j) {
      const Box& box = objects[i].boxes[j];
      const PixelBox pixels = decode_box(box, picture.width, picture.height);
      ordered_json found = {
          {"label", objects[i].label},
          {"image_index", image_index},
          {"box_norm", {box.x1, box.y1, box.x2, box.y2}},
          {"box_px", {rounded(pixels.x1), rounded(pixels.y1), rounded(pixels.x2), rounded(pixels.y2)}}};
      if (i < scored.size() && j < scored[i].boxes.size() && scored[i].boxes[j].box == box)
        found["score"] = rounded(scored[i].boxes[j].score);
      out.push_back(std::move(found));
    }
  return out;
}

std::string sse_event(const ordered_json& value) { return "data: " + dump_json(value) + "\n\n"; }

std::string sse_typed_event(const ordered_json& value) {
  return "event: " + value.at("type").get<std::string>() + "\n" + sse_event(value);
}

std::string rfc3339(std::time_t time) {
  std::tm parts = {};
  ::gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

}  // namespace vl2::server

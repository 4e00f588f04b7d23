#include "apps/server/api_sampling.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "core/base/random.h"

namespace vl2::server {
namespace {

using nlohmann::json;

constexpr size_t kMostStops = 16;
constexpr int64_t kMostTokens = int64_t{1} << 30;

std::vector<std::string> parse_stop(const Fields& fields) {
  const json* stop = fields.find("stop");
  if (stop == nullptr) return {};
  const std::string expected = "a string or a list of at most 16, none of them empty";
  std::vector<std::string> result;
  if (stop->is_string()) {
    result.push_back(stop->get<std::string>());
  } else if (stop->is_array() && stop->size() <= kMostStops) {
    for (const json& one : *stop) {
      if (!one.is_string()) fields.reject("stop", expected);
      result.push_back(one.get<std::string>());
    }
  } else {
    fields.reject("stop", expected);
  }
  for (const std::string& one : result)
    if (one.empty()) fields.reject("stop", expected);
  return result;
}

// {"token id": what is added to its logit}; -100 rules it out, 100 rules out the others, in practice.
std::vector<TokenBias> parse_logit_bias(const Fields& fields) {
  std::vector<TokenBias> result;
  const json* biases = fields.find("logit_bias");
  if (biases == nullptr) return result;
  const std::string expected = "an object of token ids with numbers from -100 to 100";
  if (!biases->is_object()) fields.reject("logit_bias", expected);
  for (const auto& [key, value] : biases->items()) {
    TokenBias one;
    const auto [end, failed] = std::from_chars(key.data(), key.data() + key.size(), one.id);
    if (failed != std::errc{} || end != key.data() + key.size() || one.id < 0) fields.reject("logit_bias", expected);
    one.bias = Fields(*biases, "logit_bias").number(key, -100, 100).value_or(0);
    result.push_back(one);
  }
  return result;
}

void refuse_what_is_missing(const Fields& fields) {
  for (const char* name : {"tools", "functions"})
    if (const json* value = fields.find(name); value != nullptr && !value->empty())
      fields.reject(name, "nothing: it is not supported", "unsupported_value");
  if (const json* choice = fields.find("tool_choice"); choice != nullptr && *choice != "none" && *choice != "auto")
    fields.reject("tool_choice", "\"none\" or \"auto\": there are no tools", "unsupported_value");
  if (const json* modalities = fields.find("modalities"); modalities != nullptr && *modalities != json{"text"})
    fields.reject("modalities", "[\"text\"]", "unsupported_value");
}

}  // namespace

AnswerParams parse_answer_params(const json& body, const nlohmann::ordered_json& forms) {
  const Fields fields(body);
  refuse_what_is_missing(fields);
  AnswerParams result;
  if (const auto format = forms.find("response_format"); format != forms.end())
    result.form = parse_response_format(*format, "response_format");
  SamplingParams& sampling = result.sampling;
  sampling.temperature = fields.number("temperature", 0, 2).value_or(sampling.temperature);
  sampling.top_p = fields.number("top_p", 0, 1).value_or(sampling.top_p);
  if (sampling.top_p == 0) sampling.top_p = 1e-9;  // the likeliest token alone
  sampling.top_k = fields.integer("top_k", -1, kMostTokens).value_or(0);
  if (sampling.top_k < 0) sampling.top_k = 0;  // some clients write -1 for "off"
  sampling.min_p = fields.number("min_p", 0, 1).value_or(sampling.min_p);
  sampling.repetition_penalty = fields.number("repetition_penalty", 0.01, 100).value_or(sampling.repetition_penalty);
  sampling.no_repeat_ngram_size = fields.integer("no_repeat_ngram_size", 0, 1024).value_or(0);
  sampling.presence_penalty = fields.number("presence_penalty", -2, 2).value_or(0);
  sampling.frequency_penalty = fields.number("frequency_penalty", -2, 2).value_or(0);
  sampling.logit_bias = parse_logit_bias(fields);
  if (const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX)) result.seed = static_cast<uint64_t>(*seed);
  result.max_tokens = fields.integer("max_completion_tokens", 1, kMostTokens);
  if (const auto older = fields.integer("max_tokens", 1, kMostTokens); !result.max_tokens) result.max_tokens = older;
  result.stop = parse_stop(fields);
  result.n = fields.integer("n", 1, kMostChoices).value_or(1);
  if (fields.integer("best_of", 1, kMostChoices).value_or(result.n) != result.n)
    fields.reject("best_of", "the same as n", "unsupported_value");
  result.stream = fields.boolean("stream").value_or(false);
  if (const json* options = fields.find("stream_options"))
    result.include_usage = Fields(*options, "stream_options").boolean("include_usage").value_or(false);
  result.return_progress = fields.boolean("return_progress").value_or(false);
  if (const json* lora = fields.find("lora")) result.lora = parse_lora(*lora, "lora");
  result.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  if (result.ignore_eos && result.form) fields.reject("ignore_eos", "false: the form says where the answer ends");
  result.detect_loops = fields.boolean("detect_loops").value_or(false);
  result.allow_special = fields.boolean("allow_special").value_or(false);
  return result;
}

uint64_t seed_of_choice(uint64_t seed, int64_t choice) {
  return choice == 0 ? seed : splitmix64(seed ^ splitmix64(static_cast<uint64_t>(choice)));
}

}  // namespace vl2::server

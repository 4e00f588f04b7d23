// How an answer is to be made: the fields chat completions and completions have in common.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/server/api_format.h"
#include "apps/server/api_lora.h"
#include "engine/runtime/request.h"

namespace vl2::server {

inline constexpr int64_t kMostChoices = 8;

struct AnswerParams {
  SamplingParams sampling;       // its seed comes with `seed`
  std::optional<uint64_t> seed;  // absent: another one each time
  std::optional<int64_t> max_tokens;
  std::vector<std::string> stop;
  int64_t n = 1;
  bool logprobs = false;
  int top_logprobs = 0;
  bool stream = false, include_usage = false;
  bool return_progress = false;                 // of the prompt, in streams
  bool ignore_eos = false;                      // go on until max_tokens; for load tests
  bool detect_loops = false;                    // end an answer that goes round in circles
  bool allow_special = false;                   // special tokens in texts are tokens
  std::optional<std::vector<LoraChoice>> lora;  // absent: what is merged
  std::optional<AnswerForm> form;
  std::shared_ptr<const Constraint> constraint;  // of `form`, once compiled
};

// `forms`: of read_json(). ApiError 400: a value that cannot be, or (unsupported_value) a field this server has nothing
// for: tools. logprobs are left to the callers, they differ.
AnswerParams parse_answer_params(const nlohmann::json& body, const nlohmann::ordered_json& forms);

// `choice` 0 draws with the seed itself, so that n = 1 and the first of many agree.
uint64_t seed_of_choice(uint64_t seed, int64_t choice);

}  // namespace vl2::server

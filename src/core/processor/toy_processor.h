// For tests only: a processor whose tokenizer knows bytes, bos and eos, and whose tiles are 32 pixels a side.
#pragma once

#include <utility>

#include "core/processor/processor.h"
#include "core/text/toy_tokenizer.h"

namespace vl2 {

inline constexpr int32_t kToyBos = 256, kToyEos = 257;

inline Tokenizer toy_chat_tokenizer() {
  nlohmann::json json = toy_tokenizer_json();
  json["added_tokens"] = {toy_added(kToyBos, "<｜begin▁of▁sentence｜>"), toy_added(kToyEos, "<｜end▁of▁sentence｜>")};
  return parse_toy(json);
}

// A tile is 2 x 2 vision tokens: 1 x 1 tiles take 6 + 1 + 6.
inline Processor toy_processor() {
  ProcessorConfig config;
  config.candidate_resolutions = default_candidate_resolutions(32);
  config.patch_size = 8;
  return {toy_chat_tokenizer(), std::move(config)};
}

}  // namespace vl2

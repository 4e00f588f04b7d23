// For tests only: prompts that share their beginnings.
#pragma once

#include <algorithm>
#include <utility>

#include "engine/runtime/engine_test.h"

namespace vl2 {

// The first `text` tokens and the picture of one prompt, then a question of its own.
inline Request question(const ModelConfig& config, const TiledImage& image, uint64_t seed, int64_t length = 11) {
  MultimodalPrompt prompt = test_prompt(config, 40, {image}, 77), tail = test_prompt(config, length, {}, seed);
  prompt.input_ids.insert(prompt.input_ids.end(), tail.input_ids.begin(), tail.input_ids.end());
  prompt.images_seq_mask.resize(prompt.input_ids.size(), 0);
  return test_request(std::move(prompt), 9);
}

inline int64_t length_of(const Request& request) { return static_cast<int64_t>(request.prompt.input_ids.size()); }

}  // namespace vl2

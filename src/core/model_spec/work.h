// How much arithmetic and how many bytes the model's work takes, by counting: what a benchmark's floor is made of.
#pragma once

#include <cstdint>

#include "core/model_spec/format_plan.h"
#include "core/model_spec/model_config.h"

namespace vl2 {

// What a stored value takes where the weights lie while they are read. Matrices lie in their format's panels, with
// scales and padding; a router, a norm or a bias takes `vector` bytes a value.
struct StoredBytes {
  ModelFormat format = ModelFormat::kBf16;
  double lookup = 2;  // embedding table
  double vector = 4;
  double cache = 2;
};

// Multiplications and additions, each one operation; only products are counted, not norms or activations.
double vision_flops_per_tile(const ModelConfig& config);  // encoder and projector
// `tokens` new tokens behind `past` cached ones, logits of the last one alone.
double prefill_flops(const ModelConfig& config, int64_t tokens, int64_t past = 0);

// Distinct routed experts of a layer that `tokens` tokens use together if each draws its own at random:
// E (1 - (1 - k / E)^tokens). 0 without experts.
double expected_experts(const LanguageConfig& config, int64_t tokens);

// Every weight that a step of `tokens` tokens reads, each once: in every layer `experts` routed experts, the shared
// ones, attention, router; lm_head; of the embedding a row a token. Of kv_b what an answer's token reads, W_UK^T and
// W_UV.
double step_weight_bytes(const ModelConfig& config, const StoredBytes& stored, int64_t tokens, double experts);
double weight_bytes_per_token(const ModelConfig& config, const StoredBytes& stored);  // a step of one token
double vision_weight_bytes(const ModelConfig& config, const StoredBytes& stored);     // encoder and projector, once
// What one token reads of the cache behind `past` tokens.
double cache_bytes_per_token(const ModelConfig& config, const StoredBytes& stored, int64_t past);

}  // namespace vl2

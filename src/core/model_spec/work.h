// How much arithmetic and how many bytes the model's work takes, by counting: what a benchmark's floor is made of.
#pragma once

#include <cstdint>

#include "core/model_spec/model_config.h"

namespace vl2 {

// Bytes a stored value takes where the weights lie while they are read.
struct StoredBytes {
  double matrix = 2;
  double vector = 4;  // norms, biases, routers
  double cache = 2;
};

// Multiplications and additions, each one operation; only products are counted, not norms or activations.
double vision_flops_per_tile(const ModelConfig& config);  // encoder and projector
// `tokens` new tokens behind `past` cached ones, logits of the last one alone.
double prefill_flops(const ModelConfig& config, int64_t tokens, int64_t past = 0);

// Every weight one token reads: its experts, the shared ones, attention, router, lm_head; of the embedding one row.
double weight_bytes_per_token(const ModelConfig& config, const StoredBytes& stored);
// What one token reads of the cache behind `past` tokens.
double cache_bytes_per_token(const ModelConfig& config, const StoredBytes& stored, int64_t past);

}  // namespace vl2

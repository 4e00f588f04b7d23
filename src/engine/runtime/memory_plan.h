// How many bytes a model, its cache and its activations will take, known before any of it is allocated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/format_bytes.h"
#include "core/model_spec/format_plan.h"
#include "core/model_spec/model_config.h"
#include "engine/backends.h"
#include "engine/runtime/engine_stats.h"

namespace vl2 {

struct MemoryPlanInput {
  BackendFootprint footprint;
  // Not -1: of the layers from this one on the routed experts lie on the host, which keeps of them what `host` says.
  int64_t gpu_layers = -1;
  BackendFootprint host = {};
  // Set: matrices lie in the panels of this format, padding and scales included, and not as footprint.matrix says.
  std::optional<ModelFormat> format;
  int64_t cached_tokens = 0;
  int64_t max_context = 0;
  int64_t prefill_chunk = 512;  // 0: whole prompts
  int64_t max_sequences = 1;
  int64_t picture_cache_bytes = 0;
  int64_t other_bytes = 0;  // of the caller, counted as activations
};

// `available` is left 0. The activations are an estimate of the largest step, vision or language.
MemoryReport plan_memory(const ModelConfig& config, const MemoryPlanInput& input);

// Bytes of encoded pictures that are kept where nobody says: 256 MiB, or a quarter of what the plan leaves free.
int64_t default_picture_cache(const MemoryReport& plan, int64_t available);

// kOutOfMemory when the plan needs more than `available` bytes: what is needed for what, what there is, what to do.
void check_memory(const MemoryReport& plan, int64_t available, const std::string& model,
                  const std::string& place = "memory");

}  // namespace vl2

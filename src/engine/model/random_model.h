// A model folder of any shape and weight format with random weights, for benchmarks and tests of what needs a release's
// size: start, memory, disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "core/model_spec/format_plan.h"
#include "core/model_spec/model_config.h"

namespace vl2 {

struct RandomModelOptions {
  ModelFormat format = ModelFormat::kBf16;  // bf16: as the releases; others: as `vl2 quantize` writes them
  std::filesystem::path files_from;         // a model whose tokenizer and processor config are copied
  uint64_t max_shard_bytes = uint64_t{4} << 30;
  std::function<void(int64_t done, int64_t total)> progress;  // bytes
};

// RandomSource's weights, as it gives them without a folder, and a config.json of the shape. One tensor at a time is in
// memory. The tokenizer's ids must be ids of this model. Errors of writing.
void write_random_model(const std::filesystem::path& folder, const ModelConfig& config,
                        const RandomModelOptions& options);

}  // namespace vl2

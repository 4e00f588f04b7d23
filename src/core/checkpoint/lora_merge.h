// A model folder with a LoRA adapter merged into its weights (core/checkpoint/lora.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

namespace vl2 {

struct LoraMergeOptions {
  uint64_t max_shard_bytes = uint64_t{4} << 30;
  int num_threads = 0;                                        // 0: all cores
  bool replace = false;                                       // a model that is in the output folder
  std::function<void(int64_t done, int64_t total)> progress;  // bytes
  std::function<bool()> cancelled;                            // asked between tensors
};

struct LoraMergeReport {
  int64_t tensors = 0, merged = 0;  // of the model; of them, changed by the adapter
  int64_t bytes = 0;
  int64_t rank = 0;
  float scale = 0;
};

// Tensor by tensor, each in the type it is stored in; what the adapter does not name is copied bit for bit, and so are
// config.json and the files beside the weights. The folder appears when it is whole. kInvalidArgument: folders that
// overlap, an output that is in the way, an adapter of another model. kUnsupported: a quantised model. kIo, kCancelled,
// and what opening the two says.
LoraMergeReport merge_lora_model(const std::filesystem::path& model, const std::filesystem::path& adapter,
                                 const std::filesystem::path& out, const LoraMergeOptions& options);

// kUnsupported, with advice, where the model's matrices are quantised.
void check_lora_can_merge(const std::filesystem::path& folder, bool quantised);

}  // namespace vl2

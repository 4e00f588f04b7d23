// LoRA adapters while they are trained: float32 leaves beside frozen weights, written in PEFT's format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint/lora.h"
#include "train/model/deepseek_vl2.h"

namespace vl2::train {

// Owns nothing but handles of its tensors. Driven by one thread.
class TrainedAdapters {
 public:
  // A pair for every linear that lora_layers() finds for `targets`: A uniform in +-1/sqrt(in), drawn from the seed and
  // the module's name, and B zero, so that training begins with the model as it is. kInvalidArgument: as lora_layers.
  TrainedAdapters(const Parameters& parameters, const LoraConfig& config, std::span<const std::string> targets,
                  uint64_t seed);

  const Adapters& adapters() const { return adapters_; }
  // Every leaf, "NAME.lora_A" and "NAME.lora_B", NAME as in Parameters.
  std::vector<std::pair<std::string, at::Tensor>> tensors() const;
  int64_t num_parameters() const;
  // adapter_config.json and adapter_model.safetensors, float32, a pair an expert.
  void save(const std::filesystem::path& folder) const;

 private:
  const Parameters& parameters_;
  LoraConfig config_;
  Adapters adapters_;
};

// Of an adapter folder, for answers: frozen. kInvalidArgument: made for another model.
Adapters load_adapters(const Parameters& parameters, const LoraAdapter& adapter);

}  // namespace vl2::train

// What a recipe trains: weights from where it says, what of them moves, and the optimiser that moves them.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "core/processor/processor.h"
#include "train/loop/replicas.h"
#include "train/loop/trained_adapters.h"
#include "train/model/deepseek_vl2.h"
#include "train/optim/adamw.h"
#include "train/recipe/recipe.h"

namespace vl2::train {

// The config of the recipe's model. kNotFound, kCorrupt: as loading it.
ModelConfig recipe_config(const Recipe& recipe);
// The folder whose tokenizer and processor files the model goes with.
std::filesystem::path recipe_tokenizer(const Recipe& recipe);

struct TrainedState {
  std::vector<NamedTensor> tensors;  // views of `kept`
  std::vector<at::Tensor> kept;      // in the computer's memory: the moving tensors themselves, or copies from a GPU
};

// Owns weights, adapters and optimiser. One thread.
class TrainedModel {
 public:
  // As the recipe starts: init's weights or random ones, adapters that change nothing yet. kInvalidArgument: parts of
  // another shape, a freeze pattern that separates experts of a layer, nothing left to train.
  explicit TrainedModel(const Recipe& recipe);

  const ModelConfig& config() const { return parameters_.config(); }
  Parameters& parameters() { return parameters_; }
  const DeepseekVl2& model() const { return *model_; }
  Replicas& replicas() { return *replicas_; }
  AdamW& optimizer() { return *optimizer_; }
  int64_t num_trained() const;  // values

  // Everything that moves, as float32 or bf16 tensors: trained weights, moments, expert biases. Valid until the next
  // step.
  TrainedState state() const;
  // kCorrupt: a tensor is missing or has another shape.
  void restore(const SafetensorsFile& state, int64_t optimizer_steps);

  // The model as others load it: bf16 weights with config.json, or for LoRA an adapter with the config of its model.
  void save(const std::filesystem::path& folder) const;

 private:
  std::vector<NamedState> moving() const;

  Parameters parameters_;
  std::unique_ptr<TrainedAdapters> adapters_;
  std::unique_ptr<DeepseekVl2> model_;
  std::unique_ptr<Replicas> replicas_;
  std::unique_ptr<AdamW> optimizer_;
};

}  // namespace vl2::train

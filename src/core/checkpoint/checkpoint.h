// A model folder in the Hugging Face layout: model.safetensors, or shards listed by model.safetensors.index.json.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "core/model_spec/model_config.h"
#include "core/model_spec/weight_schema.h"

namespace vl2 {

// Owns the mappings of all shards; views die with it. Immutable: any thread may read.
class Checkpoint {
 public:
  // Opens every shard; checks the index against the shards. Errors name the missing shard or tensor.
  explicit Checkpoint(const std::filesystem::path& folder);

  const TensorView* find(const std::string& name) const;
  const TensorView& at(const std::string& name) const;  // kNotFound, naming the tensor and the folder
  std::vector<std::string> names() const;
  const std::filesystem::path& folder() const { return folder_; }
  int64_t num_bytes() const;  // of tensor data

  // Every tensor of the schema is there with its shape and a float dtype; kCorrupt with the first few problems listed.
  void check(const ModelConfig& config) const;

  // Lets the kernel drop the pages of a tensor whose values were copied elsewhere.
  void release(const TensorView& tensor) const;

 private:
  std::filesystem::path folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> owner_;
};

}  // namespace vl2

// A model folder in the Hugging Face layout: model.safetensors, or shards listed by model.safetensors.index.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "core/model_spec/model_config.h"
#include "core/model_spec/weight_schema.h"

namespace vl2 {

// Owns the mappings of all shards; views die with it. Immutable: any thread may read.
class Checkpoint {
 public:
  // Opens every shard. Every tensor the index lists must be in the shard it names; what shards hold beyond that is not
  // seen. Errors name the missing shard or tensor.
  explicit Checkpoint(const std::filesystem::path& folder);

  const TensorView* find(const std::string& name) const;
  const TensorView& at(const std::string& name) const;  // kNotFound, naming the tensor and the folder
  std::vector<std::string> names() const;               // sorted
  const std::filesystem::path& folder() const { return folder_; }
  int64_t num_bytes() const;  // of tensor data

  // Every tensor of the schema (but unused ones) is there with its shape and a float dtype; kCorrupt with the first few
  // problems listed. Tensors beyond the schema are no problem.
  void check(const ModelConfig& config) const;

  // Lets the kernel drop the pages of a tensor whose values were copied elsewhere.
  void release(const TensorView& tensor) const;

 private:
  void open_shards(const std::filesystem::path& index);

  std::filesystem::path folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> owner_;
};

std::vector<TensorHeader> tensor_headers(std::span<const WeightSpec> schema, DType dtype);

// Writes model-00001-of-000002.safetensors, ... (five and six digits, as the releases) and the index, in the given
// order; a shard holds at most max_shard_bytes of data unless one tensor alone is larger. The folder is created. Each
// file is atomic and the index comes last, so a folder that was interrupted has none. Holds one tensor in memory at a
// time.
void write_sharded(const std::filesystem::path& folder, std::span<const TensorHeader> headers, const FillTensor& fill,
                   uint64_t max_shard_bytes = uint64_t{8} << 30);

}  // namespace vl2

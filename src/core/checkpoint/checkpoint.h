// A model folder in the Hugging Face layout: model.safetensors, or shards listed by model.safetensors.index.json.
//
// A matrix "X.weight" is stored plainly under its name, or as panels under "X.weight.q4", ".q8" or ".bf16" (U8
// [panels, bytes of a panel]), latent attention's kv_b as three stacks of one matrix a head, "X.weight.uk.q8", ".uv.q8"
// and ".uk_t.q8" (U8 [heads, bytes of a matrix]); docs/quantized_format.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "core/model_spec/model_config.h"
#include "core/model_spec/weight_schema.h"
#include "core/quant/panel_format.h"

namespace vl2 {

// Owns the mappings of all shards; views die with it and with what owner() gave. Immutable: any thread may read.
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

  // A matrix stored as panels; nullopt: it is not. Views into the mapped file, 64-byte aligned. What the scales and
  // codes say is not looked at. kCorrupt: another dtype or shape, misplaced in its file, or stored twice.
  std::optional<PanelMatrix> panels(const std::string& weight, int64_t rows, int64_t cols) const;
  std::optional<LatentPanels> latent_panels(const std::string& weight, int64_t heads, int64_t qk_nope, int64_t v,
                                            int64_t rank) const;

  // Keeps the views of a stored tensor, or of the panels of `weight`, alive without the Checkpoint. kNotFound.
  std::shared_ptr<const void> owner(const std::string& weight) const;

  // Every tensor of the schema (but unused ones) is there with its shape and a float dtype, or as panels where it is a
  // matrix; kCorrupt with the first few problems listed. Tensors beyond the schema are no problem.
  void check(const ModelConfig& config) const;

  // Lets the kernel drop the pages of a tensor whose values were copied elsewhere.
  void release(const TensorView& tensor) const;

 private:
  void open_shards(const std::filesystem::path& index);
  std::optional<PanelMatrix> stored(const std::string& stem, int64_t count, int64_t rows, int64_t cols) const;
  std::string problem_with(const WeightSpec& spec, const ModelConfig& config) const;

  std::filesystem::path folder_;
  std::vector<std::shared_ptr<SafetensorsFile>> files_;
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> owner_;
};

std::vector<TensorHeader> tensor_headers(std::span<const WeightSpec> schema, DType dtype);

// Writes model-00001-of-000002.safetensors, ... (five and six digits, as the releases) and the index. The folder is
// created. Each file is atomic and the index comes last, so a folder that was interrupted has none. Holds one tensor in
// memory at a time. `metadata` is that of every shard.
void write_shards(const std::filesystem::path& folder, std::span<const std::vector<TensorHeader>> shards,
                  const FillTensor& fill, const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

// In the given order, as many to a shard as fit; a shard holds more than max_shard_bytes of data if one tensor does.
std::vector<std::vector<TensorHeader>> split_into_shards(std::span<const TensorHeader> headers,
                                                         uint64_t max_shard_bytes);

// Both.
void write_sharded(const std::filesystem::path& folder, std::span<const TensorHeader> headers, const FillTensor& fill,
                   uint64_t max_shard_bytes = uint64_t{8} << 30);

}  // namespace vl2

// LoRA adapters in PEFT's file format: adapter_config.json, and adapter_model.safetensors with two matrices a module,
// base_model.model.MODULE.lora_A.weight [r, in] and .lora_B.weight [out, r].
//
// A module is a tensor's name in core/model_spec/weight_schema without ".weight". With it, y = W x becomes
// y = (W + alpha / r B A) x. Whoever runs the result merges: one function does it, so that a merged model and one
// merged while it is loaded are equal to the last bit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/checkpoint/safetensors.h"
#include "core/model_spec/model_config.h"

namespace vl2 {

struct LoraConfig {
  int64_t rank = 8;
  double alpha = 32;
  double dropout = 0;            // while training
  bool rank_stabilised = false;  // PEFT's use_rslora: alpha / sqrt(r) in place of alpha / r
  std::string base_model;        // for people; may be empty

  float scale() const;
};

// A linear layer that an adapter may change.
struct LoraLayer {
  std::string module;
  int64_t out = 0, in = 0;
};

// What lora_layers takes: "all-linear" (everything below), projections by name, and "projector".
std::span<const std::string_view> lora_target_names();

// Every linear of the language model whose last name is among `targets` (shared and routed experts included; neither
// router nor lm_head ever), and the projector's, in the order of the weight schema. kInvalidArgument: an unknown
// target, or one that this model has nothing for.
std::vector<LoraLayer> lora_layers(const ModelConfig& config, std::span<const std::string> targets);
int64_t lora_num_parameters(std::span<const LoraLayer> layers, int64_t rank);

struct LoraPair {
  TensorView a, b;  // [r, in], [out, r]
};

// Owns the mapped file; views die with it. Immutable: any thread may read.
class LoraAdapter {
 public:
  // kNotFound; kCorrupt: not what the two files must hold; kUnsupported: a variant that changes what is computed (DoRA,
  // trained biases, ranks by pattern, ...).
  explicit LoraAdapter(const std::filesystem::path& folder);

  const LoraConfig& config() const { return config_; }
  const std::filesystem::path& folder() const { return folder_; }
  const std::map<std::string, LoraPair>& modules() const { return modules_; }
  const LoraPair* find(std::string_view weight) const;  // by the tensor's name, "MODULE.weight"; nullptr: unchanged

  // Every module is a linear of this model with matching shapes, and every value is finite. kInvalidArgument: it was
  // made for another model; the message has the first few differences. kCorrupt: a value that is no number.
  void check(const ModelConfig& model) const;

 private:
  void read_config();
  void read_modules();

  std::filesystem::path folder_;
  LoraConfig config_;
  std::unique_ptr<SafetensorsFile> file_;
  std::map<std::string, LoraPair> modules_;
};

// out = W + scale B A: products summed in float32 over r in order, added to W in float32 and rounded once to W's own
// type. The bits depend neither on the number of threads nor on the machine. `out` has W's size and must not be W.
void merge_lora(const TensorView& weight, const LoraPair& pair, float scale, std::span<std::byte> out,
                ThreadPool* pool = nullptr);

// A trained adapter as named tensors in memory; names are modules.
struct LoraTensors {
  std::string module;
  TensorView a, b;
};

// Both files, each atomic, adapter_config.json last. The folder is created. kInvalidArgument: shapes that are no
// [r, in] and [out, r]. kIo.
void write_lora(const std::filesystem::path& folder, const LoraConfig& config, std::span<const LoraTensors> tensors);

}  // namespace vl2

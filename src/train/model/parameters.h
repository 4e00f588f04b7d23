// The trainer's weights: every tensor of the schema by name, float32 masters unless frozen.
//
// The routed experts of a layer are one tensor a projection, [E, out, in], under "...mlp.experts.*.gate_proj.weight":
// one batched product and one optimiser step for all of them. Files hold them one by one, as the schema says.
//
// Owns its tensors (frozen ones may lie in a mapped file, which they keep alive). Driven by one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"
#include "core/checkpoint/checkpoint.h"
#include "core/model_spec/model_config.h"
#include "core/model_spec/weight_schema.h"

namespace vl2::train {

struct Parameter {
  std::string name;  // the schema's, with "*" for the expert's number
  WeightRole role = WeightRole::kMatrix;
  Shape shape;                     // [E, out, in] for routed experts
  std::vector<WeightSpec> stored;  // what a checkpoint holds of it: one tensor, or one an expert in order
  at::Tensor value;                // a leaf; undefined where `mapped` is used
  std::vector<at::Tensor> mapped;  // frozen experts straight from a file, [out, in] each

  int64_t size() const { return num_elements(shape); }
  bool trainable() const { return value.defined() && value.requires_grad(); }
};

// Where the paper is silent: matrices, embeddings and positions normal(0, stddev), norms one, biases zero; the router
// uniform in +-1/sqrt(hidden) and newline and separator normal(0, 1/sqrt(hidden)) as in the official code.
struct RandomInit {
  uint64_t seed = 0;
  double stddev = 0.02;
};

struct LoadOptions {
  // Parameters that will never be trained, by their name here: kept as the file has them where that is bf16 (mapped,
  // not copied), else rounded to bf16. Null: none.
  std::function<bool(const Parameter&)> frozen_bf16;
};

class Parameters {
 public:
  // Without the unused pooling head. All trainable but expert biases.
  static Parameters random(const ModelConfig& config, const RandomInit& init);
  // Of any float type; unused tensors are carried along as they are, if they are there. kCorrupt, as Checkpoint::check;
  // kUnsupported: a quantised folder.
  static Parameters load(const ModelConfig& config, std::shared_ptr<const Checkpoint> checkpoint,
                         const LoadOptions& options = {});

  const ModelConfig& config() const { return config_; }
  const std::vector<Parameter>& all() const { return all_; }  // in the schema's order
  const Parameter* find(const std::string& name) const;       // nullptr: absent
  const Parameter& at(const std::string& name) const;         // kNotFound

  // By a stored name, an expert's own included: a view. kNotFound.
  at::Tensor tensor(const std::string& stored_name) const;
  at::Tensor grad(const std::string& stored_name) const;  // undefined: none yet

  // Whoever the predicate holds for is trained, all else is not. kInvalidArgument for a bf16 frozen one; expert biases
  // and unused tensors are passed over.
  void set_trainable(const std::function<bool(const Parameter&)>& trainable);
  std::vector<at::Tensor> trainable() const;  // in the schema's order
  void zero_grad();                           // sets them undefined
  // The same parameters over other tensors of the same shapes: what `value` makes of each one.
  Parameters with_values(const std::function<at::Tensor(const at::Tensor& value)>& value) const;
  void to(at::Device device);  // moves everything; gradients are dropped
  at::Device device() const { return device_; }

  // config.json and model-*.safetensors with their index into `folder`, which is created; `dtype` kF32 or kBF16 (expert
  // biases stay F32: bf16 would swallow their steps). Unused tensors keep their type. config.json says `dtype`.
  void save(const std::filesystem::path& folder, DType dtype, uint64_t max_shard_bytes = uint64_t{8} << 30) const;

 private:
  explicit Parameters(const ModelConfig& config);

  ModelConfig config_;
  std::vector<Parameter> all_;
  std::map<std::string, size_t> by_name_;                             // ours
  std::map<std::string, std::pair<size_t, int64_t>> by_stored_name_;  // index and expert
  std::shared_ptr<const Checkpoint> checkpoint_;
  at::Device device_ = at::kCPU;
};

bool is_expert_bias(const Parameter& parameter);

// b_e += step * sign(mean(c) - c_e) for every layer with an expert bias (spec training 3). tokens_per_expert
// [MoE layers, E]: int64 counts over the global batch, as ForwardResult has them, summed. Gives each MoE layer's
// MaxVio, (max c_e - mean c) / mean c, whether it has a bias or not; 0 where nothing was routed.
std::vector<double> update_expert_bias(Parameters& parameters, const at::Tensor& tokens_per_expert, double step);

}  // namespace vl2::train

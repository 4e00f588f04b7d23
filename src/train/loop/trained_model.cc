#include "train/loop/trained_model.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <map>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/model_spec/model_config.h"
#include "train/model/device.h"
#include "train/recipe/parameter_rules.h"

namespace vl2::train {
namespace {

namespace fs = std::filesystem;

std::map<std::string, ParameterRule> rules_by_name(const Recipe& recipe, const ModelConfig& config) {
  std::map<std::string, ParameterRule> rules;
  for (ParameterRule& rule : parameter_rules(recipe, config)) rules.emplace(rule.name, std::move(rule));
  return rules;
}

// Of all that is stored in one parameter.
ParameterRule rule_of(const Parameter& p, const std::map<std::string, ParameterRule>& rules) {
  const ParameterRule& rule = rules.at(p.stored.front().name);
  for (const WeightSpec& spec : p.stored) {
    const ParameterRule& other = rules.at(spec.name);
    if (other.trainable != rule.trainable || other.decay != rule.decay || other.lr_multiplier != rule.lr_multiplier)
      fail(ErrorCode::kInvalidArgument,
           "{} and {} are trained differently, but the experts of a layer are one tensor here; let the pattern match "
           "all "
           "of them or none",
           p.stored.front().name, spec.name);
  }
  return rule;
}

// What Muon is for: matrices between hidden states. Embeddings, the head and the patch embedding map to or from other
// spaces and stay with Adam, as the router does.
bool is_inner_matrix(const Parameter& p) {
  const bool matrix = p.role == WeightRole::kMatrix || p.role == WeightRole::kExpert;
  return matrix && p.shape.size() >= 2 && p.name != "language.lm_head.weight" &&
         !p.name.starts_with("vision.patch_embed");
}

// Copies the tensors of one part, e.g. "vision.", out of another model.
void copy_part(Parameters& parameters, const std::string& folder, const std::string& prefix) {
  if (folder.empty()) return;
  const c10::NoGradGuard no_grad;
  const Checkpoint source{fs::path(folder)};
  for (const WeightSpec& spec : weight_schema(parameters.config())) {
    if (spec.role == WeightRole::kUnused || !spec.name.starts_with(prefix)) continue;
    const TensorView& from = source.at(spec.name);
    if (from.shape != spec.shape)
      fail(ErrorCode::kInvalidArgument, "{}: {} is {}, this model's is {}", folder, spec.name, shape_string(from.shape),
           shape_string(spec.shape));
    std::vector<float> values = to_floats(from);
    at::Tensor to = parameters.tensor(spec.name);
    to.copy_(at::from_blob(values.data(), to.sizes(), at::kFloat));
  }
}

Parameters make_parameters(const Recipe& recipe) {
  const ModelConfig config = recipe_config(recipe);
  if (recipe.model.init.empty()) {
    Parameters parameters =
        Parameters::random(config, {.seed = static_cast<uint64_t>(recipe.model.init_seed), .stddev = 0.02});
    copy_part(parameters, recipe.model.init_vision, "vision.");
    copy_part(parameters, recipe.model.init_language, "language.");
    return parameters;
  }
  const auto rules = rules_by_name(recipe, config);
  LoadOptions options;
  if (recipe.compute == ComputeType::kBf16)
    options.frozen_bf16 = [&](const Parameter& p) { return !is_expert_bias(p) && !rule_of(p, rules).trainable; };
  return Parameters::load(config, std::make_shared<const Checkpoint>(fs::path(recipe.model.init)), options);
}

}  // namespace

ModelConfig recipe_config(const Recipe& recipe) {
  if (!recipe.model.init.empty()) return load_model_config(fs::path(recipe.model.init) / "config.json");
  const fs::path path = recipe.model.config;
  if (fs::is_directory(path)) return load_model_config(path / "config.json");
  if (path.extension() == ".json") return load_model_config(path);
  return preset_config(recipe.model.config);
}

fs::path recipe_tokenizer(const Recipe& recipe) {
  const ModelSource& m = recipe.model;
  for (const std::string* folder : {&m.tokenizer, &m.init, &m.init_language, &m.config})
    if (!folder->empty() && fs::exists(fs::path(*folder) / "tokenizer.json")) return *folder;
  fail(ErrorCode::kNotFound, "{}: no tokenizer.json; name the folder that has it in model.tokenizer", recipe.name);
}

TrainedModel::TrainedModel(const Recipe& recipe) : parameters_(make_parameters(recipe)) {
  const at::Device device = training_device(recipe.device);
  if (!device.is_cpu()) parameters_.to(device);
  const auto rules = rules_by_name(recipe, config());
  parameters_.set_trainable([&](const Parameter& p) { return rule_of(p, rules).trainable; });
  std::vector<OptimizedParameter> optimized;
  for (const Parameter& p : parameters_.all()) {
    if (!p.trainable()) continue;
    const ParameterRule rule = rule_of(p, rules);
    optimized.push_back({p.name, p.value, rule.lr_multiplier, rule.decay,
                         recipe.optimizer == OptimizerType::kMuon && is_inner_matrix(p)});
  }
  if (recipe.lora) {
    const LoraConfig lora{.rank = recipe.lora->rank,
                          .alpha = recipe.lora->alpha,
                          .dropout = recipe.lora->dropout,
                          .base_model = recipe.model.init};
    adapters_ =
        std::make_unique<TrainedAdapters>(parameters_, lora, recipe.lora->targets, static_cast<uint64_t>(recipe.seed));
    for (auto& [name, value] : adapters_->tensors()) optimized.push_back({name, value, 1.0, true});
  }
  if (optimized.empty())
    fail(ErrorCode::kInvalidArgument, "{}: everything is frozen, there is nothing to train", recipe.name);
  model_ = std::make_unique<DeepseekVl2>(parameters_, adapters_ ? &adapters_->adapters() : nullptr);
  replicas_ = std::make_unique<Replicas>(parameters_, adapters_ ? &adapters_->adapters() : nullptr, recipe.replicas);
  optimizer_ = std::make_unique<AdamW>(
      std::move(optimized),
      AdamWOptions{.beta1 = recipe.beta1,
                   .beta2 = recipe.beta2,
                   .eps = recipe.eps,
                   .weight_decay = recipe.weight_decay,
                   .bf16_moments = recipe.bf16_optimizer,
                   .orthogonal_compute = recipe.compute == ComputeType::kBf16 ? at::kBFloat16 : at::kFloat,
                   .seed = static_cast<uint64_t>(recipe.seed),
                   .workers = device.is_cpu() ? recipe.replicas : 1,
                   .together = !device.is_cpu()});
}

int64_t TrainedModel::num_trained() const {
  int64_t count = 0;
  for (const OptimizedParameter& p : optimizer_->parameters()) count += p.value.numel();
  return count;
}

std::vector<NamedState> TrainedModel::moving() const {
  std::vector<NamedState> result = optimizer_->state();
  for (const OptimizedParameter& p : optimizer_->parameters()) result.push_back({"w." + p.name, p.value.detach()});
  for (const Parameter& p : parameters_.all())
    if (is_expert_bias(p)) result.push_back({"w." + p.name, p.value.detach()});
  return result;
}

TrainedState TrainedModel::state() const {
  TrainedState result;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {  // wide types first, as the format wants them
    for (const NamedState& s : moving()) {
      VL2_CHECK(s.value.is_contiguous(), "{}", s.name);
      if ((s.value.scalar_type() == at::kFloat) != (dtype == DType::kF32)) continue;
      result.kept.push_back(s.value.cpu());
      result.tensors.push_back({s.name,
                                {static_cast<const std::byte*>(result.kept.back().data_ptr()), dtype,
                                 Shape(s.value.sizes().begin(), s.value.sizes().end())}});
    }
  }
  return result;
}

void TrainedModel::restore(const SafetensorsFile& state, int64_t optimizer_steps) {
  const c10::NoGradGuard no_grad;
  for (const NamedState& s : moving()) {
    const TensorView* from = state.find(s.name);
    const Shape shape(s.value.sizes().begin(), s.value.sizes().end());
    if (from == nullptr || from->shape != shape)
      fail(
          ErrorCode::kCorrupt,
          "{}: {} is {}, the recipe needs {}; it belongs to a recipe that trains something else: choose another output "
          "folder",
          state.path().string(), s.name, from == nullptr ? "missing" : shape_string(from->shape), shape_string(shape));
    const auto type = from->dtype == DType::kBF16 ? at::kBFloat16 : at::kFloat;
    if (from->dtype != DType::kBF16 && from->dtype != DType::kF32)
      fail(ErrorCode::kCorrupt, "{}: {} is {}, expected F32 or BF16", state.path().string(), s.name,
           dtype_name(from->dtype));
    at::Tensor to = s.value;
    to.copy_(at::from_blob(const_cast<std::byte*>(from->data), to.sizes(), type));
  }
  optimizer_->set_steps(optimizer_steps);
}

void TrainedModel::save(const fs::path& folder) const {
  if (!adapters_) return parameters_.save(folder, DType::kBF16);
  adapters_->save(folder);
  write_file_atomic(folder / "config.json", model_config_json(config()));
}

}  // namespace vl2::train

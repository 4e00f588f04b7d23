#include "train/model/parameters.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <utility>

#include "core/base/file.h"
#include "core/base/random.h"

namespace vl2::train {
namespace {

at::ScalarType scalar_type(DType dtype, const std::string& name) {
  switch (dtype) {
    case DType::kF32:
      return at::kFloat;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF16:
      return at::kHalf;
    case DType::kF64:
      return at::kDouble;
    default:
      fail(ErrorCode::kCorrupt, "{} is stored as {}, expected a float type", name, dtype_name(dtype));
  }
}

DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return DType::kF32;
    case at::kBFloat16:
      return DType::kBF16;
    case at::kHalf:
      return DType::kF16;
    case at::kDouble:
      return DType::kF64;
    default:
      VL2_CHECK(false, "a parameter of type {}", c10::toString(tensor.scalar_type()));
  }
}

// "a.experts.12.b" -> "a.experts.*.b"
std::string with_star(const std::string& name) {
  const std::string key = ".experts.";
  const size_t begin = name.find(key) + key.size();
  return name.substr(0, begin) + "*" + name.substr(name.find('.', begin));
}

void fill_random(const Parameter& parameter, const RandomInit& init, int64_t hidden) {
  auto* values = parameter.value.data_ptr<float>();
  const int64_t each = parameter.size() / static_cast<int64_t>(parameter.stored.size());
  for (size_t i = 0; i < parameter.stored.size(); ++i, values += each) {
    Random random(init.seed ^ fnv1a64(parameter.stored[i].name));
    const auto normal = [&](double stddev) {
      for (int64_t j = 0; j < each; ++j) values[j] = static_cast<float>(stddev) * random.normal();
    };
    const std::string& name = parameter.name;
    if (name == "image_newline" || name == "view_seperator") {
      normal(1.0 / std::sqrt(static_cast<double>(hidden)));
    } else if (parameter.role == WeightRole::kRouter) {
      const auto bound = static_cast<float>(1.0 / std::sqrt(static_cast<double>(parameter.shape.back())));
      for (int64_t j = 0; j < each; ++j) values[j] = random.symmetric(bound);
    } else if (parameter.role != WeightRole::kVector || name.ends_with("pos_embed")) {
      normal(init.stddev);
    } else {
      std::fill_n(values, each, name.ends_with(".weight") ? 1.0f : 0.0f);  // norms; biases
    }
  }
}

// A view of the file that keeps it alive. Nothing writes to frozen parameters.
at::Tensor map_tensor(const TensorView& view, const std::string& name, std::shared_ptr<const void> owner) {
  return at::from_blob(
      const_cast<std::byte*>(view.data), view.shape, [owner = std::move(owner)](void*) {},
      at::TensorOptions().dtype(scalar_type(view.dtype, name)));
}

}  // namespace

bool is_expert_bias(const Parameter& parameter) { return parameter.name.ends_with(".e_score_correction_bias"); }

Parameters::Parameters(const ModelConfig& config) : config_(config) {
  config_.quantization.reset();
  for (const WeightSpec& spec : weight_schema(config)) {
    const bool expert = spec.role == WeightRole::kExpert;
    const std::string name = expert ? with_star(spec.name) : spec.name;
    const auto [found, added] = by_name_.emplace(name, all_.size());
    if (added) {
      Parameter parameter;
      parameter.name = name;
      parameter.role = spec.role;
      parameter.shape = spec.shape;
      if (expert) parameter.shape.insert(parameter.shape.begin(), *config.language.n_routed_experts);
      all_.push_back(std::move(parameter));
    }
    Parameter& parameter = all_[found->second];
    by_stored_name_[spec.name] = {found->second, expert ? static_cast<int64_t>(parameter.stored.size()) : -1};
    parameter.stored.push_back(spec);
  }
}

Parameters Parameters::random(const ModelConfig& config, const RandomInit& init) {
  Parameters parameters(config);
  for (Parameter& parameter : parameters.all_) {
    if (parameter.role == WeightRole::kUnused) continue;
    parameter.value = at::empty(parameter.shape, at::kFloat);
    fill_random(parameter, init, config.language.hidden_size);
  }
  parameters.set_trainable([](const Parameter&) { return true; });
  return parameters;
}

Parameters Parameters::load(const ModelConfig& config, std::shared_ptr<const Checkpoint> checkpoint,
                            const LoadOptions& options) {
  checkpoint->check(config);
  Parameters parameters(config);
  parameters.checkpoint_ = checkpoint;
  for (Parameter& parameter : parameters.all_) {
    const auto map_stored = [&](size_t i) {
      const std::string& name = parameter.stored[i].name;
      return map_tensor(checkpoint->at(name), name, checkpoint->owner(name));
    };
    const TensorView* first = checkpoint->find(parameter.stored[0].name);
    if (parameter.role == WeightRole::kUnused) {
      if (first != nullptr) parameter.value = map_stored(0);
      continue;
    }
    if (first == nullptr)
      fail(ErrorCode::kUnsupported, "{}: {} is stored quantised; train the model it was made from",
           checkpoint->folder().string(), parameter.stored[0].name);
    const bool frozen = options.frozen_bf16 && !is_expert_bias(parameter) && options.frozen_bf16(parameter);
    std::vector<at::Tensor> parts;
    bool all_bf16 = true;
    for (size_t i = 0; i < parameter.stored.size(); ++i) {
      parts.push_back(map_stored(i));
      all_bf16 = all_bf16 && parts.back().scalar_type() == at::kBFloat16;
    }
    const bool experts = parameter.role == WeightRole::kExpert;
    if (frozen && all_bf16) {
      if (experts) {
        parameter.mapped = std::move(parts);
      } else {
        parameter.value = parts[0];
      }
      continue;
    }
    parameter.value = at::empty(parameter.shape, frozen ? at::kBFloat16 : at::kFloat);
    for (size_t i = 0; i < parts.size(); ++i) {
      (experts ? parameter.value[static_cast<int64_t>(i)] : parameter.value).copy_(parts[i]);
      checkpoint->release(checkpoint->at(parameter.stored[i].name));
    }
  }
  parameters.set_trainable([](const Parameter& p) { return p.value.defined() && p.value.scalar_type() == at::kFloat; });
  return parameters;
}

const Parameter* Parameters::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &all_[found->second];
}

const Parameter& Parameters::at(const std::string& name) const {
  const Parameter* parameter = find(name);
  if (parameter == nullptr) fail(ErrorCode::kNotFound, "no parameter is called {}", name);
  return *parameter;
}

at::Tensor Parameters::tensor(const std::string& stored_name) const {
  const auto found = by_stored_name_.find(stored_name);
  if (found == by_stored_name_.end()) fail(ErrorCode::kNotFound, "no tensor is called {}", stored_name);
  const auto [index, expert] = found->second;
  const Parameter& parameter = all_[index];
  if (!parameter.mapped.empty()) return parameter.mapped[static_cast<size_t>(expert)];
  return expert < 0 ? parameter.value : parameter.value.detach()[expert];
}

at::Tensor Parameters::grad(const std::string& stored_name) const {
  const auto found = by_stored_name_.find(stored_name);
  if (found == by_stored_name_.end()) fail(ErrorCode::kNotFound, "no tensor is called {}", stored_name);
  const auto [index, expert] = found->second;
  if (!all_[index].value.defined()) return {};
  const at::Tensor grad = all_[index].value.grad();
  return !grad.defined() || expert < 0 ? grad : grad[expert];
}

void Parameters::set_trainable(const std::function<bool(const Parameter&)>& trainable) {
  for (Parameter& parameter : all_) {
    if (parameter.role == WeightRole::kUnused || is_expert_bias(parameter)) continue;
    const bool wanted = trainable(parameter);
    if (wanted && (!parameter.value.defined() || parameter.value.scalar_type() != at::kFloat))
      fail(ErrorCode::kInvalidArgument, "{} was loaded to stay frozen and cannot be trained", parameter.name);
    if (!parameter.value.defined()) continue;
    parameter.value.requires_grad_(wanted);
    if (!wanted) parameter.value.mutable_grad() = at::Tensor();
  }
}

std::vector<at::Tensor> Parameters::trainable() const {
  std::vector<at::Tensor> result;
  for (const Parameter& parameter : all_)
    if (parameter.trainable()) result.push_back(parameter.value);
  return result;
}

Parameters Parameters::with_values(const std::function<at::Tensor(const at::Tensor&)>& value) const {
  Parameters result = *this;
  for (Parameter& parameter : result.all_)
    if (parameter.value.defined()) parameter.value = value(parameter.value);
  return result;
}

void Parameters::zero_grad() {
  for (Parameter& parameter : all_)
    if (parameter.trainable()) parameter.value.mutable_grad() = at::Tensor();
}

void Parameters::to(at::Device device) {
  for (Parameter& parameter : all_) {
    if (!parameter.mapped.empty()) {
      parameter.value = at::stack(parameter.mapped).to(device);
      parameter.mapped.clear();
    } else if (parameter.value.defined()) {
      const bool trainable = parameter.trainable();
      parameter.value = parameter.value.detach().to(device).requires_grad_(trainable);
    }
  }
  device_ = device;
}

void Parameters::save(const std::filesystem::path& folder, DType dtype, uint64_t max_shard_bytes) const {
  if (dtype != DType::kF32 && dtype != DType::kBF16)
    fail(ErrorCode::kInvalidArgument, "weights cannot be saved as {}, expected F32 or BF16", dtype_name(dtype));
  std::vector<TensorHeader> headers;
  for (const Parameter& parameter : all_) {
    if (!parameter.value.defined() && parameter.mapped.empty()) continue;
    for (const WeightSpec& spec : parameter.stored) {
      const DType stored = parameter.role == WeightRole::kUnused ? dtype_of(parameter.value)
                           : is_expert_bias(parameter)           ? DType::kF32
                                                                 : dtype;
      headers.push_back({spec.name, stored, spec.shape});
    }
  }
  const c10::NoGradGuard no_gradients;
  write_sharded(
      folder, headers,
      [this](const TensorHeader& header, std::span<std::byte> bytes) {
        const at::Tensor value =
            tensor(header.name).detach().cpu().to(scalar_type(header.dtype, header.name)).contiguous();
        VL2_CHECK(value.nbytes() == bytes.size(), "{}: {} bytes for {}", header.name, value.nbytes(), bytes.size());
        std::memcpy(bytes.data(), value.data_ptr(), bytes.size());
      },
      max_shard_bytes);
  ModelConfig config = config_;
  config.torch_dtype = dtype == DType::kBF16 ? "bfloat16" : "float32";
  write_file_atomic(folder / "config.json", model_config_json(config));
}

std::vector<double> update_expert_bias(Parameters& parameters, const at::Tensor& tokens_per_expert, double step) {
  const LanguageConfig& c = parameters.config().language;
  const c10::NoGradGuard no_gradients;
  const at::Tensor counts = tokens_per_expert.cpu().to(at::kDouble);
  std::vector<double> violations;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    if (!c.is_moe(layer)) continue;
    const auto row = static_cast<int64_t>(violations.size());
    VL2_CHECK(counts.dim() == 2 && row < counts.size(0), "counts of {} layers, expected every MoE layer's",
              counts.size(0));
    const at::Tensor count_E = counts[row];
    const at::Tensor mean = count_E.mean();
    const double average = mean.item<double>();
    violations.push_back(average > 0.0 ? count_E.max().item<double>() / average - 1.0 : 0.0);
    const Parameter* bias =
        parameters.find(fmt::format("language.model.layers.{}.mlp.gate.e_score_correction_bias", layer));
    if (bias == nullptr || step == 0.0) continue;
    at::Tensor value = bias->value;  // shares its storage
    value.add_((mean - count_E).sign().to(value.scalar_type()).to(value.device()), step);
  }
  return violations;
}

}  // namespace vl2::train

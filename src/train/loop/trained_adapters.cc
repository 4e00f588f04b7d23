#include "train/loop/trained_adapters.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vl2::train {
namespace {

std::string module_name(const std::string& weight) {
  constexpr std::string_view kEnd = ".weight";
  VL2_CHECK(weight.ends_with(kEnd), "{} is no linear layer's weight", weight);
  return weight.substr(0, weight.size() - kEnd.size());
}

at::Tensor uniform(const std::string& name, at::IntArrayRef shape, double bound, uint64_t seed) {
  at::Tensor values = at::empty(shape, at::kFloat);
  Random random(splitmix64(seed ^ fnv1a64(name)));
  float* out = values.data_ptr<float>();
  for (int64_t i = 0; i < values.numel(); ++i) out[i] = random.symmetric(static_cast<float>(bound));
  return values;
}

}  // namespace

TrainedAdapters::TrainedAdapters(const Parameters& parameters, const LoraConfig& config,
                                 std::span<const std::string> targets, uint64_t seed)
    : parameters_(parameters), config_(config) {
  std::set<std::string> modules;
  for (const LoraLayer& layer : lora_layers(parameters.config(), targets)) modules.insert(layer.module);
  for (const Parameter& p : parameters.all()) {
    if (p.stored.empty() || !p.stored.front().name.ends_with(".weight")) continue;
    if (!modules.contains(module_name(p.stored.front().name))) continue;
    const int64_t in = p.shape.back(), out = p.shape[p.shape.size() - 2];
    std::vector<int64_t> a_shape = {config.rank, in}, b_shape = {out, config.rank};
    if (p.shape.size() == 3) {
      a_shape.insert(a_shape.begin(), p.shape.front());
      b_shape.insert(b_shape.begin(), p.shape.front());
    }
    const double bound = 1.0 / std::sqrt(static_cast<double>(in));
    const at::Device device = parameters.device();
    adapters_[p.name] = {uniform(p.name, a_shape, bound, seed).to(device).requires_grad_(true),
                         at::zeros(b_shape, at::kFloat).to(device).requires_grad_(true), config.scale(),
                         config.dropout};
  }
}

std::vector<std::pair<std::string, at::Tensor>> TrainedAdapters::tensors() const {
  std::vector<std::pair<std::string, at::Tensor>> result;
  for (const auto& [name, adapter] : adapters_) {
    result.emplace_back(name + ".lora_A", adapter.a);
    result.emplace_back(name + ".lora_B", adapter.b);
  }
  return result;
}

int64_t TrainedAdapters::num_parameters() const {
  int64_t count = 0;
  for (const auto& [name, adapter] : adapters_) count += adapter.a.numel() + adapter.b.numel();
  return count;
}

void TrainedAdapters::save(const std::filesystem::path& folder) const {
  const c10::NoGradGuard no_grad;
  std::vector<at::Tensor> kept;  // what the views below look at
  std::vector<LoraTensors> pairs;
  const auto view = [&](const at::Tensor& tensor) {
    kept.push_back(tensor.detach().cpu().contiguous());
    const at::Tensor& t = kept.back();
    return TensorView{reinterpret_cast<const std::byte*>(t.data_ptr<float>()), DType::kF32,
                      Shape(t.sizes().begin(), t.sizes().end())};
  };
  for (const auto& [name, adapter] : adapters_) {
    const Parameter& p = parameters_.at(name);
    for (size_t e = 0; e < p.stored.size(); ++e) {
      const bool stacked = adapter.a.dim() == 3;
      const auto index = static_cast<int64_t>(e);
      const at::Tensor a = stacked ? adapter.a[index] : adapter.a, b = stacked ? adapter.b[index] : adapter.b;
      const TensorView a_view = view(a);
      pairs.push_back({module_name(p.stored[e].name), a_view, view(b)});
    }
  }
  write_lora(folder, config_, pairs);
}

Adapters load_adapters(const Parameters& parameters, const LoraAdapter& adapter) {
  adapter.check(parameters.config());
  Adapters result;
  for (const Parameter& p : parameters.all()) {
    std::vector<at::Tensor> a, b;
    for (const WeightSpec& spec : p.stored) {
      const LoraPair* pair = adapter.find(spec.name);
      if (pair == nullptr) continue;
      const auto tensor = [](const TensorView& view) {
        std::vector<float> values = to_floats(view);
        return at::from_blob(values.data(), view.shape, at::kFloat).clone();
      };
      a.push_back(tensor(pair->a));
      b.push_back(tensor(pair->b));
    }
    if (a.empty()) continue;
    if (a.size() != p.stored.size())
      fail(ErrorCode::kUnsupported, "{}: only some experts of {} have an adapter; merge it and use the result",
           adapter.folder().string(), p.name);
    const bool stacked = p.shape.size() == 3;
    result[p.name] = {stacked ? at::stack(a) : a.front(), stacked ? at::stack(b) : b.front(), adapter.config().scale(),
                      0.0};
  }
  return result;
}

}  // namespace vl2::train

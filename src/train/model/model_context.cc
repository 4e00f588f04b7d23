#include "train/model/model_context.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "core/base/random.h"
#include "train/model/fused_ops.h"
#include "train/model/tensor_ops.h"

namespace vl2::train {
namespace {

// Names of an adapter's tensors among the leaves of a recomputed layer.
std::string adapter_a(const std::string& name) { return name + "#a"; }
std::string adapter_b(const std::string& name) { return name + "#b"; }

}  // namespace

void ModelContext::stage(const std::string& name, const at::Tensor& values) const {
  if (traced()) state->options.tap(name, values.detach());
}

at::Tensor ModelContext::master(const std::string& name) const {
  if (leaves != nullptr)
    if (const auto found = leaves->find(name); found != leaves->end()) return found->second;
  return parameters->at(name).value;
}

at::Tensor ModelContext::weight(const std::string& name) const {
  if (rounded == nullptr) return master(name).to(state->compute);
  at::Tensor& copy = (*rounded)[name];
  if (!copy.defined()) copy = factor(master(name).to(state->compute));
  return copy;
}

at::Tensor ModelContext::factor(const at::Tensor& x) const {
  return state->rounds_factors ? x.to(at::kBFloat16).to(at::kFloat) : x;
}

at::Tensor ModelContext::stacked_experts(const std::string& name) const {
  return parameters->at(name).mapped.empty() ? weight(name) : at::Tensor();
}

std::vector<at::Tensor> ModelContext::expert_list(const std::string& name) const {
  const Parameter& parameter = parameters->at(name);
  if (parameter.mapped.empty()) return weight(name).unbind(0);
  std::vector<at::Tensor> result;
  for (const at::Tensor& expert : parameter.mapped) result.push_back(factor(expert.to(state->compute)));
  return result;
}

bool ModelContext::find_adapter(const std::string& name, Lora& adapter) const {
  if (adapters == nullptr) return false;
  const auto found = adapters->find(name);
  if (found == adapters->end()) return false;
  adapter = {found->second.a, found->second.b, found->second.scale, found->second.dropout};
  if (leaves != nullptr) {
    if (const auto a = leaves->find(adapter_a(name)); a != leaves->end()) adapter.a = a->second;
    if (const auto b = leaves->find(adapter_b(name)); b != leaves->end()) adapter.b = b->second;
  }
  adapter.a = adapter.a.to(state->compute);
  adapter.b = adapter.b.to(state->compute);
  return true;
}

at::Tensor adapter_dropout(const ModelContext& context, const std::string& name, double probability,
                           const at::Tensor& x) {
  if (probability <= 0.0 || !context.state->options.dropout) return x;
  // A generator of its own makes the mask the same when the layer is recomputed.
  const uint64_t seed = splitmix64(context.state->options.dropout_seed ^ fnv1a64(name));
  at::Generator generator = at::detail::createCPUGenerator(seed);
  at::Tensor kept = at::empty(x.sizes(), at::kFloat).bernoulli_(1.0 - probability, generator);
  return x * kept.div_(1.0 - probability).to(x.options());
}

at::Tensor linear(const ModelContext& context, const std::string& layer, const at::Tensor& x) {
  const std::string name = layer + ".weight";
  const std::string bias = layer + ".bias";
  at::Tensor y =
      at::linear(context.factor(x), context.weight(name), context.has(bias) ? context.weight(bias) : at::Tensor());
  ModelContext::Lora adapter;
  if (!context.find_adapter(name, adapter)) return y;
  const at::Tensor low = at::linear(adapter_dropout(context, name, adapter.dropout, x), adapter.a);
  return y + at::linear(low, adapter.b) * adapter.scale;
}

at::Tensor layer_norm(const ModelContext& context, const std::string& layer, const at::Tensor& x, double eps) {
  return fused_layer_norm(x, context.weight(layer + ".weight"), context.weight(layer + ".bias"), eps);
}

}  // namespace vl2::train

#include "train/model/recompute.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>
#include <vector>

namespace vl2::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Work : torch::CustomClassHolder {
  ModelContext context;
  Stage stage;
  std::vector<std::string> names;  // of the weights that need gradients
};

class Recompute : public torch::autograd::Function<Recompute> {
 public:
  static at::Tensor forward(AutogradContext* autograd, const at::Tensor& x, at::TensorList weights,
                            const c10::intrusive_ptr<Work>& work) {
    variable_list saved = {x};
    saved.insert(saved.end(), weights.begin(), weights.end());
    autograd->save_for_backward(std::move(saved));
    autograd->saved_data["work"] = at::IValue::make_capsule(work);
    at::Tensor result = work->stage(work->context, x);
    work->context.record = nullptr;  // it has reported, and the record may be gone when backward() runs
    return result;
  }

  static variable_list backward(AutogradContext* autograd, variable_list grads) {
    const auto work = c10::static_intrusive_pointer_cast<Work>(autograd->saved_data["work"].toCapsule());
    const variable_list saved = autograd->get_saved_variables();
    c10::AutoGradMode with_gradients(true);
    std::map<std::string, at::Tensor> leaves;
    variable_list inputs;
    at::Tensor x = saved[0].detach();
    if (autograd->needs_input_grad(0)) inputs.push_back(x.requires_grad_());
    for (size_t i = 0; i < work->names.size(); ++i) {
      const at::Tensor leaf = saved[i + 1].detach().requires_grad_();
      leaves[work->names[i]] = leaf;
      inputs.push_back(leaf);
    }
    ModelContext context = work->context;
    context.leaves = &leaves;
    const at::Tensor result = work->stage(context, x);
    variable_list gradients = torch::autograd::grad({result}, inputs, {grads[0]}, false, false, true);
    if (!autograd->needs_input_grad(0)) gradients.insert(gradients.begin(), at::Tensor());
    gradients.emplace_back();  // of `work`
    return gradients;
  }
};

}  // namespace

at::Tensor recompute(const ModelContext& context, const std::string& prefix, const at::Tensor& x, const Stage& stage) {
  auto work = c10::make_intrusive<Work>();
  work->context = context;
  work->stage = stage;
  variable_list weights;
  const auto add = [&](const std::string& name, const at::Tensor& value) {
    if (!value.defined() || !value.requires_grad()) return;
    work->names.push_back(name);
    weights.push_back(value);
  };
  for (const Parameter& parameter : context.parameters->all())
    if (parameter.name.starts_with(prefix)) add(parameter.name, parameter.value);
  if (context.adapters != nullptr) {
    for (const auto& [name, adapter] : *context.adapters) {
      if (!name.starts_with(prefix)) continue;
      add(name + "#a", adapter.a);
      add(name + "#b", adapter.b);
    }
  }
  if (!c10::GradMode::is_enabled() || (weights.empty() && !x.requires_grad())) return stage(context, x);
  return Recompute::apply(x, at::TensorList(weights), work);
}

}  // namespace vl2::train

#include "train/loop/replicas.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "core/base/error.h"
#include "train/optim/side_by_side.h"

namespace vl2::train {
namespace {

// The same storage, another gradient.
at::Tensor with_own_gradient(const at::Tensor& master) {
  return master.detach().requires_grad_(master.requires_grad());
}

}  // namespace

Replicas::Copy::Copy(const Parameters& from, const Adapters* from_adapters)
    : parameters(from.with_values([this](const at::Tensor& master) {
        if (!master.requires_grad()) return master;
        leaves.emplace_back(with_own_gradient(master), master);
        return leaves.back().first;
      })) {
  if (from_adapters != nullptr) {
    adapters = *from_adapters;
    for (auto& [name, adapter] : adapters) {
      for (at::Tensor* leaf : {&adapter.a, &adapter.b}) {
        if (!leaf->requires_grad()) continue;
        leaves.emplace_back(with_own_gradient(*leaf), *leaf);
        *leaf = leaves.back().first;
      }
    }
  }
  model = std::make_unique<DeepseekVl2>(parameters, from_adapters != nullptr ? &adapters : nullptr);
}

Replicas::Replicas(const Parameters& parameters, const Adapters* adapters, int64_t count) {
  VL2_CHECK(count >= 1);
  for (int64_t i = 0; i < count; ++i) copies_.push_back(std::make_unique<Copy>(parameters, adapters));
}

void Replicas::run(int64_t items, const std::function<void(const DeepseekVl2&, int64_t)>& work) {
  side_by_side(count(), items, true,
               [&](int64_t copy, int64_t item) { work(*copies_[static_cast<size_t>(copy)]->model, item); });
}

void Replicas::collect_gradients() {
  const c10::NoGradGuard no_grad;
  for (const auto& copy : copies_) {
    for (auto& [leaf, master] : copy->leaves) {
      const at::Tensor gradient = leaf.grad();
      if (!gradient.defined()) continue;
      at::Tensor sum = master.grad();
      if (sum.defined()) {
        sum.add_(gradient);
      } else {
        master.mutable_grad() = gradient;
      }
      leaf.mutable_grad() = at::Tensor();
    }
  }
}

void Replicas::drop_gradients() {
  for (const auto& copy : copies_)
    for (auto& [leaf, master] : copy->leaves) leaf.mutable_grad() = at::Tensor();
}

}  // namespace vl2::train

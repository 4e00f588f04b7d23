#include "train/optim/adamw.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "core/base/error.h"
#include "core/base/random.h"
#include "train/optim/orthogonalise.h"
#include "train/optim/side_by_side.h"

namespace vl2::train {
namespace {

// Elements rounded at once: their random numbers take eight bytes each.
constexpr int64_t kRoundedAtOnce = int64_t{1} << 22;

constexpr double kMuonMomentum = 0.95;
// Adam's updates have about this root mean square (Liu et al. 2025, "Muon is scalable for LLM training").
constexpr double kUpdateSize = 0.2;

}  // namespace

AdamW::AdamW(std::vector<OptimizedParameter> parameters, const AdamWOptions& options)
    : parameters_(std::move(parameters)), options_(options) {
  const c10::NoGradGuard no_grad;
  for (const OptimizedParameter& p : parameters_) {
    VL2_CHECK(p.value.scalar_type() == at::kFloat, "{} is no float32 tensor", p.name);
    const auto like = p.value.options().requires_grad(false).dtype(options.bf16_moments ? at::kBFloat16 : at::kFloat);
    m_.push_back(at::zeros(p.value.sizes(), like));
    v_.push_back(p.orthogonal ? at::Tensor() : at::zeros(p.value.sizes(), like));
  }
}

double AdamW::gradient_norm() const {
  const c10::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;  // read together: each reading waits for a GPU
  for (const OptimizedParameter& p : parameters_) {
    const at::Tensor gradient = p.value.grad();
    if (gradient.defined()) norms.push_back(gradient.norm(2, at::kDouble));
  }
  return norms.empty() ? 0.0 : at::stack(norms).norm().item<double>();
}

void AdamW::scale_gradients(double scale) {
  const c10::NoGradGuard no_grad;
  for (const OptimizedParameter& p : parameters_) {
    at::Tensor gradient = p.value.grad();
    if (gradient.defined()) gradient.mul_(scale);
  }
}

void AdamW::step(double learning_rate) {
  ++steps_;
  if (options_.together && !options_.bf16_moments) return update_together(learning_rate);
  // The parameters have nothing to do with each other, and most are too small for several threads.
  side_by_side(options_.workers, std::ssize(parameters_), false, [&](int64_t /*worker*/, int64_t item) {
    const c10::NoGradGuard no_grad;
    const auto i = static_cast<size_t>(item);
    if (!parameters_[i].value.grad().defined()) return;
    parameters_[i].orthogonal ? update_orthogonal(i, learning_rate) : update(i, learning_rate);
  });
}

void AdamW::update_orthogonal(size_t index, double learning_rate) {
  const OptimizedParameter& p = parameters_[index];
  const at::Tensor g = p.value.grad();
  const double lr = learning_rate * p.lr_multiplier;
  const at::Tensor m = options_.bf16_moments ? m_[index].to(at::kFloat) : m_[index];
  m.mul_(kMuonMomentum).add_(g, 1.0 - kMuonMomentum);
  const at::Tensor direction =
      orthogonalise(m.mul(kMuonMomentum).add_(g, 1.0 - kMuonMomentum), options_.orthogonal_compute);
  const auto larger = static_cast<double>(std::max(g.size(-2), g.size(-1)));
  at::Tensor w = p.value;
  if (p.decay) w.mul_(1.0 - lr * options_.weight_decay);
  w.add_(direction, -lr * kUpdateSize * std::sqrt(larger));
  if (options_.bf16_moments)
    m_[index].copy_(round_stochastically(m, splitmix64(options_.seed ^ static_cast<uint64_t>(steps_)), 2 * index));
}

void AdamW::update(size_t index, double learning_rate) {
  const OptimizedParameter& p = parameters_[index];
  const at::Tensor g = p.value.grad();
  const double lr = learning_rate * p.lr_multiplier;
  const auto t = static_cast<double>(steps_);
  const double unbias1 = 1.0 - std::pow(options_.beta1, t), unbias2 = 1.0 - std::pow(options_.beta2, t);

  at::Tensor m = m_[index], v = v_[index];
  if (options_.bf16_moments) {
    m = m.to(at::kFloat);
    v = v.to(at::kFloat);
  }
  m.mul_(options_.beta1).add_(g, 1.0 - options_.beta1);
  v.mul_(options_.beta2).addcmul_(g, g, 1.0 - options_.beta2);
  at::Tensor w = p.value;
  if (p.decay) w.mul_(1.0 - lr * options_.weight_decay);
  const at::Tensor scale = v.sqrt().div_(std::sqrt(unbias2)).add_(options_.eps);
  w.addcdiv_(m, scale, -lr / unbias1);
  if (options_.bf16_moments) {
    const uint64_t seed = splitmix64(options_.seed ^ static_cast<uint64_t>(steps_));
    m_[index].copy_(round_stochastically(m, seed, 2 * index));
    v_[index].copy_(round_stochastically(v, seed, 2 * index + 1));
  }
}

// Parameters with one learning rate, decay and form of update; of orthogonal ones, of one shape.
void AdamW::update_together(double learning_rate) {
  const c10::NoGradGuard no_grad;
  using Key = std::tuple<bool, double, bool, int64_t, int64_t>;
  struct Group {
    std::vector<at::Tensor> w, g, m, v;
  };
  std::map<Key, Group> groups;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const OptimizedParameter& p = parameters_[i];
    const at::Tensor g = p.value.grad();
    if (!g.defined()) continue;
    Group& group =
        groups[{p.orthogonal, p.lr_multiplier, p.decay, p.orthogonal ? g.size(-2) : 0, p.orthogonal ? g.size(-1) : 0}];
    group.w.push_back(p.value.detach());  // shares its storage
    group.g.push_back(g);
    group.m.push_back(m_[i]);
    if (!p.orthogonal) group.v.push_back(v_[i]);
  }
  const auto t = static_cast<double>(steps_);
  const double unbias1 = 1.0 - std::pow(options_.beta1, t), unbias2 = 1.0 - std::pow(options_.beta2, t);
  for (auto& [key, group] : groups) {
    const auto& [orthogonal, multiplier, decay, rows, columns] = key;
    const double lr = learning_rate * multiplier;
    if (decay) at::_foreach_mul_(group.w, 1.0 - lr * options_.weight_decay);
    if (!orthogonal) {
      at::_foreach_mul_(group.m, options_.beta1);
      at::_foreach_add_(group.m, group.g, 1.0 - options_.beta1);
      at::_foreach_mul_(group.v, options_.beta2);
      at::_foreach_addcmul_(group.v, group.g, group.g, 1.0 - options_.beta2);
      std::vector<at::Tensor> scale = at::_foreach_sqrt(group.v);
      at::_foreach_div_(scale, std::sqrt(unbias2));
      at::_foreach_add_(scale, options_.eps);
      at::_foreach_addcdiv_(group.w, group.m, scale, -lr / unbias1);
      continue;
    }
    at::_foreach_mul_(group.m, kMuonMomentum);
    at::_foreach_add_(group.m, group.g, 1.0 - kMuonMomentum);
    std::vector<at::Tensor> matrices;  // [n, R, C], n = 1 but for experts
    std::vector<int64_t> counts;
    for (size_t i = 0; i < group.m.size(); ++i) {
      matrices.push_back(group.m[i].mul(kMuonMomentum).add_(group.g[i], 1.0 - kMuonMomentum).view({-1, rows, columns}));
      counts.push_back(matrices.back().size(0));
    }
    std::vector<at::Tensor> directions =
        orthogonalise(at::cat(matrices), options_.orthogonal_compute).split_with_sizes(counts);
    for (size_t i = 0; i < directions.size(); ++i) directions[i] = directions[i].view(group.w[i].sizes());
    at::_foreach_add_(group.w, directions, -lr * kUpdateSize * std::sqrt(static_cast<double>(std::max(rows, columns))));
  }
}

std::vector<NamedState> AdamW::state() const {
  std::vector<NamedState> result;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    result.push_back({"m." + parameters_[i].name, m_[i]});
    if (v_[i].defined()) result.push_back({"v." + parameters_[i].name, v_[i]});
  }
  return result;
}

at::Tensor round_stochastically(const at::Tensor& x, uint64_t seed, uint64_t stream) {
  const c10::NoGradGuard no_grad;
  const at::Tensor flat = x.contiguous().view({-1});
  const at::Tensor result = at::empty(flat.sizes(), x.options().dtype(at::kBFloat16));
  const auto start = static_cast<int64_t>(splitmix64(seed ^ splitmix64(stream)) >> 1);
  for (int64_t begin = 0; begin < flat.numel(); begin += kRoundedAtOnce) {
    const int64_t count = std::min(kRoundedAtOnce, flat.numel() - begin);
    // A multiplicative hash of the element's number, twice; what overflows is lost.
    at::Tensor random = at::arange(begin, begin + count, x.options().dtype(at::kLong));
    random.add_(start & 0x7fffffffffff).mul_(int64_t{0x2545f4914f6cdd1d});
    random.bitwise_xor_(at::bitwise_right_shift(random, 29)).mul_(int64_t{0x1b873593cc9e2d51});
    random = at::bitwise_and(at::bitwise_right_shift(random, 40), 0xffff).to(at::kInt);
    // Adding below what bf16 keeps and cutting off rounds up as often as the cut bits say. Infinities and NaNs stay.
    const at::Tensor values = flat.narrow(0, begin, count);
    const at::Tensor bits = values.view(at::kInt);
    const at::Tensor rounded = bits.add(random).bitwise_and_(static_cast<int64_t>(0xffff0000u) - (int64_t{1} << 32));
    result.narrow(0, begin, count).copy_(at::where(at::isfinite(values), rounded.view(at::kFloat), values));
  }
  return result.view(x.sizes());
}

}  // namespace vl2::train

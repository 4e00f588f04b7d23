#include "train/optim/adamw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "train/optim/orthogonalise.h"

namespace vl2::train {
namespace {

at::Tensor leaf(std::vector<float> values) { return at::tensor(values, at::kFloat).requires_grad_(true); }
void set_gradient(const at::Tensor& parameter, std::vector<float> values) {
  at::Tensor copy = parameter;
  copy.mutable_grad() = at::tensor(values, at::kFloat).view(parameter.sizes());
}

TEST(AdamW, FollowsTheFormulasOverSeveralSteps) {
  const AdamWOptions options{.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};
  const at::Tensor w = leaf({1.0f, -2.0f, 0.5f});
  AdamW adam({{"w", w, 0.5, true}}, options);
  double expected[3] = {1.0, -2.0, 0.5}, m[3] = {}, v[3] = {};
  const double lr = 0.01;
  for (int t = 1; t <= 5; ++t) {
    std::vector<float> gradient;
    for (int i = 0; i < 3; ++i) gradient.push_back(0.1f * static_cast<float>(t * (i - 1)) + 0.03f);
    set_gradient(w, gradient);
    adam.step(lr);
    for (int i = 0; i < 3; ++i) {
      const double g = gradient[static_cast<size_t>(i)];
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.95 * v[i] + 0.05 * g * g;
      const double step = m[i] / (1 - std::pow(0.9, t)) / (std::sqrt(v[i] / (1 - std::pow(0.95, t))) + 1e-8);
      expected[i] -= lr * 0.5 * (step + 0.1 * expected[i]);
    }
  }
  for (int i = 0; i < 3; ++i)
    EXPECT_NEAR(w[i].item<float>(), expected[i], 10 * std::numeric_limits<float>::epsilon()) << i;
  EXPECT_EQ(adam.steps(), 5);
}

TEST(AdamW, WithoutDecayAZeroGradientLeavesTheWeight) {
  const at::Tensor w = leaf({1.0f, 2.0f});
  AdamW adam({{"w", w, 1.0, false}}, {});
  set_gradient(w, {0.0f, 0.0f});
  adam.step(0.1);
  EXPECT_EQ(w[0].item<float>(), 1.0f);
  EXPECT_EQ(w[1].item<float>(), 2.0f);
}

TEST(AdamW, AParameterWithoutGradientIsLeftAlone) {
  const at::Tensor w = leaf({1.0f}), idle = leaf({3.0f});
  AdamW adam({{"w", w, 1.0, true}, {"idle", idle, 1.0, true}}, {});
  set_gradient(w, {2.0f});
  EXPECT_DOUBLE_EQ(adam.gradient_norm(), 2.0);
  adam.step(0.1);
  EXPECT_NE(w[0].item<float>(), 1.0f);
  EXPECT_EQ(idle[0].item<float>(), 3.0f);
}

TEST(AdamW, TheNormIsOfAllGradientsAndTellsOfBadOnes) {
  const at::Tensor a = leaf({1.0f, 1.0f}), b = leaf({1.0f});
  AdamW adam({{"a", a}, {"b", b}}, {});
  set_gradient(a, {3.0f, 0.0f});
  set_gradient(b, {4.0f});
  EXPECT_DOUBLE_EQ(adam.gradient_norm(), 5.0);
  adam.scale_gradients(0.2);
  EXPECT_NEAR(adam.gradient_norm(), 1.0, 1e-6);
  set_gradient(b, {std::numeric_limits<float>::infinity()});
  EXPECT_FALSE(std::isfinite(adam.gradient_norm()));
  set_gradient(b, {std::numeric_limits<float>::quiet_NaN()});
  EXPECT_FALSE(std::isfinite(adam.gradient_norm()));
}

TEST(AdamW, GoesOnFromItsStateBitByBit) {
  for (const auto& [bf16, orthogonal] : {std::pair(false, false), {true, false}, {false, true}, {true, true}}) {
    const AdamWOptions options{.bf16_moments = bf16, .seed = 7};
    const auto matrix = [] { return leaf({1.0f, -1.0f}).detach().view({2, 1}).requires_grad_(true); };
    const at::Tensor w = matrix(), again = matrix();
    const bool muon = orthogonal;
    AdamW whole({{"w", w, 1.0, true, muon}}, options);
    for (int t = 0; t < 6; ++t) {
      set_gradient(w, {0.3f * static_cast<float>(t), -0.7f});
      whole.step(0.01);
    }
    AdamW first({{"w", again, 1.0, true, muon}}, options);
    for (int t = 0; t < 3; ++t) {
      set_gradient(again, {0.3f * static_cast<float>(t), -0.7f});
      first.step(0.01);
    }
    AdamW second({{"w", again, 1.0, true, muon}}, options);
    second.set_steps(first.steps());
    const std::vector<NamedState> from = first.state(), to = second.state();
    for (size_t i = 0; i < from.size(); ++i) {
      EXPECT_EQ(from[i].name, to[i].name);
      at::Tensor target = to[i].value;
      target.copy_(from[i].value);
    }
    for (int t = 3; t < 6; ++t) {
      set_gradient(again, {0.3f * static_cast<float>(t), -0.7f});
      second.step(0.01);
    }
    EXPECT_TRUE(at::equal(w, again)) << bf16 << muon;
  }
}

TEST(AdamW, TogetherItTakesTheStepsOfEachAlone) {
  at::manual_seed(3);
  std::vector<OptimizedParameter> alone, together;
  const auto add = [&](const char* name, const std::vector<int64_t>& shape, double multiplier, bool decay, bool muon) {
    const at::Tensor value = at::randn(shape, at::kFloat);
    alone.push_back({name, value.clone().requires_grad_(true), multiplier, decay, muon});
    together.push_back({name, value.clone().requires_grad_(true), multiplier, decay, muon});
  };
  add("a", {6, 10}, 1, true, true), add("b", {6, 10}, 1, true, true), add("c", {3, 6, 10}, 1, true, true);
  add("d", {6, 10}, 0.1, true, true), add("e", {10, 6}, 1, false, true), add("f", {6, 10}, 1, true, false);
  add("g", {5}, 1, false, false), add("h", {7}, 1, false, false), add("idle", {4}, 1, true, false);
  AdamW one(alone, {.orthogonal_compute = at::kFloat});
  AdamW other(together, {.orthogonal_compute = at::kFloat, .together = true});
  for (int t = 0; t < 3; ++t) {
    for (size_t i = 0; i + 1 < alone.size(); ++i) {
      alone[i].value.mutable_grad() = at::randn(alone[i].value.sizes());
      together[i].value.mutable_grad() = alone[i].value.grad().clone();
    }
    one.step(0.02);
    other.step(0.02);
  }
  for (size_t i = 0; i < alone.size(); ++i)
    EXPECT_LE((alone[i].value - together[i].value).abs().max().item<float>(), 1e-6f) << alone[i].name;
  const auto a = one.state(), b = other.state();
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_LE((a[i].value - b[i].value).abs().max().item<float>(), 1e-6f) << a[i].name;
}

TEST(Muon, BringsSingularValuesNearOne) {
  at::manual_seed(1);
  for (const auto compute : {at::kFloat, at::kBFloat16}) {
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{24, 40}, {40, 24}, {3, 17, 9}, {1, 5}}) {
      const at::Tensor g = at::randn(shape, at::kFloat) * 1e-3;
      const at::Tensor values = at::linalg_svdvals(orthogonalise(g, compute));
      EXPECT_GT(values.min().item<float>(), 0.5f) << shape;
      EXPECT_LT(values.max().item<float>(), 1.3f) << shape;
    }
  }
  EXPECT_TRUE(at::equal(orthogonalise(at::zeros({4, 3}), at::kFloat), at::zeros({4, 3})));
}

TEST(Muon, KeepsSingularVectors) {
  at::manual_seed(2);
  const at::Tensor g = at::randn({6, 10}, at::kFloat);
  const auto [u, s, vt] = at::linalg_svd(g, false);
  // The result's own singular vectors are those of g: u^T x v is diagonal.
  const at::Tensor inner = u.t().matmul(orthogonalise(g, at::kFloat)).matmul(vt.t());
  EXPECT_LT((inner - at::diag(at::diagonal(inner))).abs().max().item<float>(), 1e-4f);
}

TEST(Muon, AStepHasTheSizeOfAdamsAndOnlyWhereItIsAskedFor) {
  at::manual_seed(3);
  const at::Tensor a = at::randn({32, 64}).requires_grad_(true), b = at::randn({32, 64}).requires_grad_(true);
  const at::Tensor a0 = a.detach().clone(), b0 = b.detach().clone();
  AdamW optimizer({{"a", a, 1.0, false, true}, {"b", b, 1.0, false}}, {.orthogonal_compute = at::kFloat});
  for (const at::Tensor& p : {a, b}) at::Tensor(p).mutable_grad() = at::randn({32, 64});
  optimizer.step(0.01);
  // Adam's first step is the learning rate in every element.
  EXPECT_NEAR((b.detach() - b0).square().mean().sqrt().item<double>(), 0.01, 1e-5);
  // Muon's: all 32 singular values s near 1, so 0.2 sqrt(64) sqrt(32 s^2 / (32 64)) = 0.2 s.
  const double size = (a.detach() - a0).square().mean().sqrt().item<double>() / 0.01;
  EXPECT_GT(size, 0.2 * 0.7);
  EXPECT_LT(size, 0.2 * 1.2);
  std::vector<std::string> names;
  for (const NamedState& state : optimizer.state()) names.push_back(state.name);
  EXPECT_EQ(names, (std::vector<std::string>{"m.a", "m.b", "v.b"}));
}

TEST(StochasticRounding, IsRightInTheMeanWhereNearestIsNot) {
  // A quarter of the way from 1 to the next bf16 number, 1 + 2^-7.
  const int64_t n = 100'000;
  const at::Tensor x = at::full({n}, 1.0 + 0.25 / 128, at::kFloat);
  const at::Tensor rounded = round_stochastically(x, 1, 2).to(at::kDouble);
  EXPECT_TRUE(((rounded == 1.0) | (rounded == 1.0 + 1.0 / 128)).all().item<bool>());
  const double up = (rounded > 1.0).to(at::kDouble).mean().item<double>();
  // Five standard deviations of a share of n draws.
  EXPECT_NEAR(up, 0.25, 5 * std::sqrt(0.25 * 0.75 / static_cast<double>(n)));
}

TEST(StochasticRounding, KeepsWhatBf16CanHold) {
  const at::Tensor x = at::tensor(std::vector<float>{0.0f, 1.0f, -2.5f, std::numeric_limits<float>::infinity()});
  EXPECT_TRUE(at::equal(round_stochastically(x, 3, 4).to(at::kFloat), x));
  const at::Tensor nan = at::full({1}, std::numeric_limits<double>::quiet_NaN(), at::kFloat);
  EXPECT_TRUE(round_stochastically(nan, 1, 1).to(at::kFloat).isnan().all().item<bool>());
}

TEST(StochasticRounding, IsSymmetricAndDependsOnSeedAndStream) {
  const at::Tensor x = at::arange(1, 5001, at::kFloat).div(7.0);
  const at::Tensor a = round_stochastically(x, 1, 0);
  EXPECT_TRUE(at::equal(a, round_stochastically(x, 1, 0)));
  EXPECT_FALSE(at::equal(a, round_stochastically(x, 1, 1)));
  EXPECT_FALSE(at::equal(a, round_stochastically(x, 2, 0)));
  EXPECT_TRUE(at::equal(a, round_stochastically(x.neg(), 1, 0).neg()));
}

}  // namespace
}  // namespace vl2::train

// Router, balance loss and expert bias.
#include "train/model/moe.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "train/model/expert_plan.h"
#include "train/model/test_batches.h"

namespace vl2::train {
namespace {

// Forward only, so that a finite difference can be taken of any weight.
double balance_loss_of(const Parameters& parameters, const MicroBatch& batch, const ForwardOptions& options) {
  const c10::NoGradGuard no_gradients;
  return DeepseekVl2(parameters).forward(batch, options).aux_losses.to(at::kDouble).sum().item<double>();
}

class BalanceLoss : public testing::TestWithParam<std::tuple<const char*, bool>> {};

TEST_P(BalanceLoss, GradientIsThatOfFiniteDifferences) {
  const auto& [preset, seq_aux] = GetParam();
  Parameters parameters = Parameters::random(preset_config(preset), {.seed = 3, .stddev = 0.3});
  const ModelConfig& config = parameters.config();
  const MicroBatch batch = packed({random_sample(config, 1, 12), random_sample(config, 2, 30)}, false);
  ForwardOptions options;
  options.aux_loss_alpha = 1.0;
  options.seq_aux = seq_aux;
  options.loss_scale = 0.0;  // leaves the balance losses' gradient alone
  const DeepseekVl2 model(parameters);
  model.forward(batch, options).loss.backward();

  // The last layer's router: moving it a little changes no choice of experts of another layer.
  const Parameter& gate = parameters.at("language.model.layers.2.mlp.gate.weight");
  at::Tensor values = gate.value.detach();  // shares its storage
  Random random(9);
  int compared = 0;
  for (int trial = 0; trial < 20; ++trial) {
    at::Tensor direction = at::empty_like(values);
    for (int64_t i = 0; i < direction.numel(); ++i) direction.data_ptr<float>()[i] = random.normal();
    const double expected = (gate.value.grad() * direction).sum().item<double>();
    const double step = 2e-4;
    values.add_(direction, step);
    const double above = balance_loss_of(parameters, batch, options);
    values.add_(direction, -2.0 * step);
    const double below = balance_loss_of(parameters, batch, options);
    values.add_(direction, step);
    // f jumps where a choice changes; a direction along which one does says nothing.
    if (std::abs(above + below - 2.0 * balance_loss_of(parameters, batch, options)) > 1e-5) continue;
    EXPECT_NEAR((above - below) / (2.0 * step), expected,
                0.02 * std::abs(expected) + 2e-3);  // float32 losses of about 2
    ++compared;
  }
  EXPECT_GT(compared, 0);
}
INSTANTIATE_TEST_SUITE_P(Presets, BalanceLoss,
                         testing::Combine(testing::Values("test-tiny", "test-base"), testing::Bool()));

TEST(BalanceLossGradient, IsExactInDouble) {
  for (const char* preset : {"test-tiny", "test-base"}) {
    const LanguageConfig c = preset_config(preset).language;
    const auto wide = at::TensorOptions().dtype(at::kDouble);
    at::Tensor logits = at::empty({6, 8}, wide);
    Random random(31);
    for (int64_t i = 0; i < logits.numel(); ++i) logits.data_ptr<double>()[i] = 2.0 * random.uniform() - 1.0;
    const at::Tensor row_mean = at::full({1, 6}, 1.0 / 6.0, wide);
    const auto loss = [&](const at::Tensor& at_logits) {
      return balance_loss(c, route(c, at_logits, at::Tensor()), row_mean, 0.5);
    };
    const at::Tensor leaf = logits.clone().requires_grad_();
    loss(leaf).backward();
    for (int64_t i = 0; i < logits.numel(); ++i) {
      const double step = 1e-6, value = logits.data_ptr<double>()[i];
      logits.data_ptr<double>()[i] = value + step;
      const double above = loss(logits).item<double>();
      logits.data_ptr<double>()[i] = value - step;
      const double below = loss(logits).item<double>();
      logits.data_ptr<double>()[i] = value;
      EXPECT_NEAR(leaf.grad().flatten()[i].item<double>(), (above - below) / (2.0 * step), 1e-8);
    }
  }
}

TEST(ExpertPlan, IsTheSameByCountingAndBySorting) {
  Random random(17);
  for (const int64_t tokens : {1, 7, 300}) {
    for (const double excess : {0.0, 1.3, 9.0}) {
      at::Tensor expert_TK = at::empty({tokens, 3}, at::kLong);
      for (int64_t i = 0; i < expert_TK.numel(); ++i)  // uneven, and nobody goes to the last
        expert_TK.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.uniform() * random.uniform() * 7);
      const ExpertPlan a = plan_experts_on_host(expert_TK, 8, excess);
      const ExpertPlan b = plan_experts_by_sorting(expert_TK, 8, excess);
      EXPECT_EQ(a.expert_rows, b.expert_rows);
      EXPECT_EQ(a.batched, b.batched);
      EXPECT_TRUE(at::equal(a.counts_E, b.counts_E));
      EXPECT_TRUE(at::equal(a.row_of_TK, b.row_of_TK));
      EXPECT_TRUE(at::equal(a.used_S, b.used_S));
      EXPECT_TRUE(at::equal(a.token_of_S, b.token_of_S));
      EXPECT_TRUE(at::equal(a.pair_of_S, b.pair_of_S));
    }
  }
}

TEST(BalanceLossValue, IsAlphaWhenEveryExpertIsUsedAlike) {
  LanguageConfig c = preset_config("test-tiny").language;
  c.num_experts_per_tok = 2;
  Routing routing;
  routing.expert_TK = at::arange(8).view({4, 2});
  routing.scores_TE = at::full({4, 8}, 0.125);
  EXPECT_NEAR(balance_loss(c, routing, at::full({1, 4}, 0.25), 0.01).item<double>(), 0.01, 1e-8);
  // All tokens to the same two of eight experts: f is 4 for each of them.
  routing.expert_TK = at::arange(2).expand({4, 2}).contiguous();
  routing.scores_TE = at::zeros({4, 8});
  routing.scores_TE.narrow(1, 0, 2).fill_(0.5);
  EXPECT_NEAR(balance_loss(c, routing, at::full({1, 4}, 0.25), 0.01).item<double>(), 0.04, 1e-8);
}

TEST(Route, BiasChoosesButDoesNotWeigh) {
  LanguageConfig c = preset_config("test-base").language;
  c.num_experts_per_tok = 2;
  const at::Tensor logits = at::tensor({0.0f, 1.0f, 2.0f, 3.0f, -1.0f, -2.0f, -3.0f, -4.0f}).unsqueeze(0);
  const at::Tensor bias = at::zeros({8}).index_fill(0, at::tensor({7}, at::kLong), 5.0);
  const Routing routing = route(c, logits, bias);
  EXPECT_EQ(routing.expert_TK[0][0].item<int64_t>(), 3);
  EXPECT_EQ(routing.expert_TK[0][1].item<int64_t>(), 7);
  const double three = 1.0 / (1.0 + std::exp(-3.0)), seven = 1.0 / (1.0 + std::exp(4.0));
  EXPECT_NEAR(routing.weight_TK[0][1].item<double>(), 2.0 * seven / (three + seven), 1e-6);
}

TEST(ExpertPlan, EveryPairHasARowOfItsExpert) {
  for (const bool even : {true, false}) {
    const int64_t tokens = 200, experts = 8, k = 2;
    std::vector<int64_t> chosen;
    for (int64_t t = 0; t < tokens; ++t) {
      chosen.push_back(even ? t % 7 : 0);
      chosen.push_back(7);
    }
    const ExpertPlan plan = plan_experts(at::tensor(chosen, at::kLong).view({tokens, k}), experts);
    std::vector<int64_t> begin = {0};
    for (const int64_t rows : plan.expert_rows) begin.push_back(begin.back() + rows);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t j = 0; j < k; ++j) {
        const int64_t row = plan.row_of_TK[t][j].item<int64_t>(), e = chosen[static_cast<size_t>(t * k + j)];
        ASSERT_TRUE(row >= begin[static_cast<size_t>(e)] && row < begin[static_cast<size_t>(e) + 1]);
        ASSERT_EQ(plan.token_of_S[row].item<int64_t>(), t);
        ASSERT_EQ(plan.pair_of_S[row].item<int64_t>(), t * k + j);
      }
    }
    EXPECT_EQ(plan.used_S.sum().item<double>(), static_cast<double>(tokens * k));
    EXPECT_EQ(plan.counts_E[7].item<int64_t>(), tokens);
  }
}

TEST(ExpertBias, MovesTowardsTheUnusedExperts) {
  Parameters parameters = Parameters::random(preset_config("test-base"), {});
  const at::Tensor bias = parameters.at("language.model.layers.2.mlp.gate.e_score_correction_bias").value;
  at::Tensor counts = at::full({2, 8}, 10, at::kLong);
  counts[1][0] = 18;
  counts[1][7] = 2;
  const std::vector<double> violations = update_expert_bias(parameters, counts, 0.001);
  ASSERT_EQ(violations.size(), 2u);
  EXPECT_NEAR(violations[0], 0.0, 1e-12);
  EXPECT_NEAR(violations[1], 0.8, 1e-12);
  EXPECT_FLOAT_EQ(bias[0].item<float>(), -0.001f);
  EXPECT_FLOAT_EQ(bias[3].item<float>(), 0.0f);
  EXPECT_FLOAT_EQ(bias[7].item<float>(), 0.001f);
  update_expert_bias(parameters, counts, 0.0);
  EXPECT_FLOAT_EQ(bias[0].item<float>(), -0.001f);
}

TEST(ExpertBias, IsNoneWithoutBias) {
  Parameters parameters = Parameters::random(preset_config("test-tiny"), {});
  EXPECT_EQ(update_expert_bias(parameters, at::ones({2, 8}, at::kLong), 0.001).size(), 2u);
}

}  // namespace
}  // namespace vl2::train

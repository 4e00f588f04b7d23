#include "train/loop/train_step.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/model_spec/model_config.h"
#include "train/model/test_batches.h"

namespace vl2::train {
namespace {

struct Trained {
  explicit Trained(const std::string& preset, double rate_of_decay = 0.1, int64_t copies = 1)
      : parameters(Parameters::random(preset_config(preset), {.seed = 3, .stddev = 0.05})),
        model(parameters),
        replicas(parameters, nullptr, copies),
        optimizer(leaves(), {.weight_decay = rate_of_decay}) {}

  std::vector<OptimizedParameter> leaves() const {
    std::vector<OptimizedParameter> result;
    for (const Parameter& p : parameters.all())
      if (p.trainable()) result.push_back({p.name, p.value});
    return result;
  }
  std::vector<at::Tensor> values() const {
    std::vector<at::Tensor> result;
    for (const Parameter& p : parameters.all())
      if (p.value.defined()) result.push_back(p.value.detach().clone());
    return result;
  }

  Parameters parameters;
  DeepseekVl2 model;
  Replicas replicas;
  AdamW optimizer;
};

std::vector<MicroBatch> samples(const ModelConfig& config) {
  return {random_sample(config, 1, 9, {{1, 1}}), random_sample(config, 2, 20), random_sample(config, 3, 5),
          random_sample(config, 4, 14, {{2, 1}})};
}

TEST(CountSupervised, LeavesOutTheFirstTokenOfEverySample) {
  MicroBatch batch;
  batch.input_ids = {5, 6, 7, 8, 9};
  batch.labels = {5, 6, kIgnoredLabel, 8, 9};
  batch.sample_starts = {0, 3, 5};
  EXPECT_EQ(count_supervised(batch), 2);  // 6 and 9
}

TEST(TrainStep, MicroBatchesOrOneBigBatchGiveTheSameStep) {
  for (const char* preset : {"test-tiny", "test-small"}) {
    Trained one(preset), many(preset);
    const std::vector<MicroBatch> parts = samples(one.model.config());
    const std::vector<MicroBatch> whole = {packed(parts, false)};
    const StepResult a = train_step(one.replicas, one.parameters, one.optimizer, whole, 1e-3, {});
    const StepResult b = train_step(many.replicas, many.parameters, many.optimizer, parts, 1e-3, {});
    EXPECT_NEAR(a.loss, b.loss, 1e-6 * a.loss) << preset;
    EXPECT_NEAR(a.aux_loss, b.aux_loss, 1e-5 * a.aux_loss) << preset;
    EXPECT_NEAR(a.gradient_norm, b.gradient_norm, 1e-5 * a.gradient_norm) << preset;
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_EQ(a.supervised, b.supervised);
    EXPECT_EQ(a.samples, 4);
    EXPECT_EQ(a.tiles, b.tiles);
    EXPECT_FALSE(a.skipped);
  }
}

TEST(TrainStep, SideBySideIsOneAfterTheOther) {
  for (const char* preset : {"test-tiny", "test-small", "test-base"}) {
    Trained one(preset), three(preset, 0.1, 3), again(preset, 0.1, 3);
    const std::vector<MicroBatch> parts = samples(one.model.config());
    for (int step = 0; step < 2; ++step) {
      const StepResult a = train_step(one.replicas, one.parameters, one.optimizer, parts, 1e-3, {});
      const StepResult b = train_step(three.replicas, three.parameters, three.optimizer, parts, 1e-3, {});
      const StepResult c = train_step(again.replicas, again.parameters, again.optimizer, parts, 1e-3, {});
      EXPECT_NEAR(a.loss, b.loss, 1e-6 * a.loss) << preset;
      EXPECT_NEAR(a.aux_loss, b.aux_loss, 1e-6 * a.aux_loss) << preset;
      EXPECT_NEAR(a.gradient_norm, b.gradient_norm, 1e-5 * a.gradient_norm) << preset;
      EXPECT_EQ(a.max_violation, b.max_violation) << preset;
      EXPECT_EQ(b.loss, c.loss) << preset;
      EXPECT_EQ(b.gradient_norm, c.gradient_norm) << preset;
    }
    const std::vector<at::Tensor> values = three.values(), same = again.values();
    for (size_t i = 0; i < values.size(); ++i) EXPECT_TRUE(at::equal(values[i], same[i])) << preset << i;
  }
}

TEST(TrainStep, AnErrorOfACopyIsTheSteps) {
  Trained t("test-tiny", 0.1, 2);
  std::vector<MicroBatch> parts = samples(t.model.config());
  parts[1].input_ids[0] = 1 << 30;
  EXPECT_THROW(train_step(t.replicas, t.parameters, t.optimizer, parts, 1e-3, {}), Error);
  EXPECT_THROW(train_step(t.replicas, t.parameters, t.optimizer, parts, 1e-3, {}), Error);
}

TEST(TrainStep, LossFallsOnWhatIsSeenAgainAndAgain) {
  Trained t("test-small");
  const std::vector<MicroBatch> parts = samples(t.model.config());
  const double first = train_step(t.replicas, t.parameters, t.optimizer, parts, 2e-3, {}).loss;
  double last = first;
  for (int i = 0; i < 15; ++i) last = train_step(t.replicas, t.parameters, t.optimizer, parts, 2e-3, {}).loss;
  EXPECT_LT(last, 0.8 * first);
}

TEST(TrainStep, ANonFiniteLossChangesNothingAndNamesTheRecord) {
  Trained t("test-small");
  std::vector<MicroBatch> parts = samples(t.model.config());
  const int32_t poisoned = parts[2].input_ids[1];
  for (size_t i = 0; i < parts.size(); ++i)  // the row is met in one sample only
    for (int32_t& id : parts[i].input_ids)
      if (i != 2 && id == poisoned) id = poisoned == 11 ? 12 : 11;
  {
    const c10::NoGradGuard no_grad;
    at::Tensor table = t.parameters.tensor("language.model.embed_tokens.weight");
    table[poisoned].fill_(std::numeric_limits<float>::infinity());
  }
  const std::vector<at::Tensor> before = t.values();
  const StepResult result = train_step(t.replicas, t.parameters, t.optimizer, parts, 1e-3, {});
  EXPECT_TRUE(result.skipped);
  EXPECT_NE(result.reason.find("sample 3"), std::string::npos) << result.reason;
  EXPECT_EQ(result.reason.find("sample 1"), std::string::npos) << result.reason;
  const std::vector<at::Tensor> after = t.values();
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(at::equal(before[i], after[i])) << i;
  EXPECT_EQ(t.optimizer.steps(), 0);
  for (const OptimizedParameter& p : t.optimizer.parameters()) EXPECT_FALSE(p.value.grad().defined()) << p.name;
}

TEST(TrainStep, GradientsAreClippedToTheNorm) {
  // Without decay and with the same moments, AdamW's first step does not see the gradient's size: so the second does.
  Trained free("test-tiny", 0), clipped("test-tiny", 0);
  const std::vector<MicroBatch> parts = samples(free.model.config());
  StepOptions loose, tight;
  loose.gradient_clip = 0;
  tight.gradient_clip = 1e-3;
  const StepResult a = train_step(free.replicas, free.parameters, free.optimizer, parts, 1e-3, loose);
  const StepResult b = train_step(clipped.replicas, clipped.parameters, clipped.optimizer, parts, 1e-3, tight);
  EXPECT_DOUBLE_EQ(a.gradient_norm, b.gradient_norm);
  ASSERT_GT(a.gradient_norm, 1e-3);
  double squares = 0;
  for (const NamedState& s : clipped.optimizer.state())
    if (s.name.starts_with("m.")) squares += std::pow(s.value.norm().item<double>() / 0.1, 2);  // m = (1 - beta1) g
  EXPECT_NEAR(std::sqrt(squares), 1e-3, 1e-3 * 1e-4);
}

TEST(TrainStep, ExpertBiasesMoveAgainstTheLoad) {
  Trained t("test-base");
  const std::vector<MicroBatch> parts = samples(t.model.config());
  std::vector<at::Tensor> before;
  for (const Parameter& p : t.parameters.all())
    if (is_expert_bias(p)) before.push_back(p.value.clone());
  ASSERT_FALSE(before.empty());
  StepOptions options;
  options.expert_bias_step = 0.01;
  const StepResult result = train_step(t.replicas, t.parameters, t.optimizer, parts, 1e-3, options);
  EXPECT_GT(result.max_violation, 0);
  size_t i = 0;
  for (const Parameter& p : t.parameters.all()) {
    if (!is_expert_bias(p)) continue;
    const at::Tensor moved = (p.value - before[i++]).abs();
    EXPECT_GT(moved.max().item<double>(), 0.009) << p.name;
    EXPECT_LT(moved.max().item<double>(), 0.011) << p.name;
  }
}

TEST(TrainStep, NothingToLearnIsAnError) {
  Trained t("test-tiny");
  MicroBatch batch = random_sample(t.model.config(), 1, 5);
  std::fill(batch.labels.begin(), batch.labels.end(), kIgnoredLabel);
  EXPECT_THROW(train_step(t.replicas, t.parameters, t.optimizer, {&batch, 1}, 1e-3, {}), Error);
}

}  // namespace
}  // namespace vl2::train

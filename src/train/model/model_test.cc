// The twin against itself, on twins of a few hundred kilobytes with random weights.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "core/base/temp_folder.h"
#include "train/model/moe.h"
#include "train/model/test_batches.h"

namespace vl2::train {
namespace {

class Twin : public testing::TestWithParam<const char*> {
 protected:
  Parameters parameters_ = Parameters::random(preset_config(GetParam()), {.seed = 5, .stddev = 0.1});
  const ModelConfig& config() const { return parameters_.config(); }

  std::vector<MicroBatch> samples() const {
    return {random_sample(config(), 1, 23, {{1, 1}}), random_sample(config(), 2, 70),
            random_sample(config(), 3, 11, {{2, 1}, {1, 2}}), random_sample(config(), 4, 1),
            random_sample(config(), 6, 64)};
  }
};
INSTANTIATE_TEST_SUITE_P(Presets, Twin, testing::Values("test-tiny", "test-small", "test-base"),
                         [](const auto& test) { return std::string(test.param).substr(5); });

TEST_P(Twin, PackedSamplesHaveTheLossesAndGradientsOfTheSamplesAlone) {
  const DeepseekVl2 model(parameters_);
  const std::vector<MicroBatch> parts = samples();
  ForwardOptions options;
  options.aux_scale = 1.0;
  const ForwardResult together = model.forward(packed(parts, false), options);
  together.loss.backward();
  const auto packed_gradients = gradients(parameters_);
  parameters_.zero_grad();

  int64_t supervised = 0;
  options.aux_scale = 1.0 / static_cast<double>(parts.size());  // each is one row of as many
  for (size_t i = 0; i < parts.size(); ++i) {
    const ForwardResult alone = model.forward(parts[i], options);
    alone.loss.backward();
    supervised += alone.supervised;
    const double loss = alone.loss_sum.item<double>();
    EXPECT_NEAR(together.sample_losses[static_cast<int64_t>(i)].item<double>(), loss, 1e-6 * loss) << "sample " << i;
  }
  EXPECT_EQ(together.supervised, supervised);
  EXPECT_NEAR(together.sample_losses.sum().item<double>(), together.loss_sum.item<double>(), 1e-9);
  const auto alone_gradients = gradients(parameters_);
  ASSERT_EQ(packed_gradients.size(), alone_gradients.size());
  for (const auto& [name, grad] : packed_gradients)
    EXPECT_LE(relative_distance(grad, alone_gradients.at(name)), 1e-4) << name;
}

TEST_P(Twin, AttentionByWholeRowsIsTheSame) {
  const DeepseekVl2 model(parameters_);
  for (const bool one_row : {true, false}) {
    const MicroBatch batch = packed(samples(), one_row);
    parameters_.zero_grad();
    const ForwardResult by_sample = model.forward(batch, {});
    by_sample.loss.backward();
    const auto expected = gradients(parameters_);
    parameters_.zero_grad();
    ForwardOptions options;
    options.whole_rows = true;
    const ForwardResult by_row = model.forward(batch, options);
    by_row.loss.backward();
    const double loss = by_sample.loss_sum.item<double>();
    EXPECT_NEAR(by_row.loss_sum.item<double>(), loss, 1e-6 * loss);
    for (const auto& [name, grad] : gradients(parameters_))
      EXPECT_LE(relative_distance(grad, expected.at(name)), 1e-4) << name;
  }
}

TEST_P(Twin, RecomputationGivesTheSameBits) {
  const DeepseekVl2 model(parameters_);
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    ForwardOptions options;
    options.compute = compute;
    const MicroBatch batch = packed(samples(), true);
    parameters_.zero_grad();
    const ForwardResult plain = model.forward(batch, options);
    plain.loss.backward();
    const auto expected = gradients(parameters_);
    parameters_.zero_grad();
    options.recompute_layers = true;
    options.recompute_vision_blocks = 1;
    const ForwardResult again = model.forward(batch, options);
    again.loss.backward();
    EXPECT_TRUE(at::equal(plain.loss, again.loss));
    EXPECT_TRUE(at::equal(plain.aux_losses, again.aux_losses));
    EXPECT_TRUE(at::equal(plain.tokens_per_expert, again.tokens_per_expert));
    const auto actual = gradients(parameters_);
    ASSERT_EQ(actual.size(), expected.size());
    for (const auto& [name, grad] : expected) EXPECT_TRUE(at::equal(grad, actual.at(name))) << name;
  }
}

TEST_P(Twin, EveryParameterGetsAGradient) {
  DeepseekVl2(parameters_).forward(packed(samples(), true), {}).loss.backward();
  for (const Parameter& p : parameters_.all()) {
    if (is_expert_bias(p) || p.role == WeightRole::kUnused) continue;
    ASSERT_TRUE(p.value.grad().defined()) << p.name;
    EXPECT_GT(p.value.grad().norm().item<double>(), 0.0) << p.name;
  }
}

TEST_P(Twin, FrozenLanguageModelLetsGradientsThroughToTheProjector) {
  const MicroBatch batch = packed(samples(), true);
  ForwardOptions options;
  options.aux_gradient = false;
  const DeepseekVl2 model(parameters_);
  model.forward(batch, options).loss.backward();
  const auto all = gradients(parameters_);
  parameters_.zero_grad();
  parameters_.set_trainable([](const Parameter& p) { return !p.name.starts_with("language."); });
  for (const bool recompute : {false, true}) {
    options.recompute_layers = recompute;
    parameters_.zero_grad();
    model.forward(batch, options).loss.backward();
    const auto some = gradients(parameters_);
    EXPECT_TRUE(some.count("projector.layers.0.weight") == 1 && some.count("language.lm_head.weight") == 0);
    for (const auto& [name, grad] : some) EXPECT_TRUE(at::equal(grad, all.at(name))) << name;
  }
}

TEST_P(Twin, SavedWeightsLoadAsTheSameModel) {
  const TempFolder folder;
  const MicroBatch batch = packed(samples(), true);
  const c10::NoGradGuard no_gradients;
  const double loss = DeepseekVl2(parameters_).forward(batch, {}).loss_sum.item<double>();
  parameters_.save(folder / "f32", DType::kF32, 100'000);
  const auto load = [&](const std::string& name, const LoadOptions& options = {}) {
    return Parameters::load(load_model_config(folder / name / "config.json"),
                            std::make_shared<Checkpoint>(folder / name), options);
  };
  const Parameters loaded = load("f32");
  EXPECT_EQ(DeepseekVl2(loaded).forward(batch, {}).loss_sum.item<double>(), loss);

  parameters_.save(folder / "bf16", DType::kBF16);
  const Parameters rounded = load("bf16");
  for (const Parameter& p : parameters_.all()) {
    if (p.role == WeightRole::kUnused) continue;
    const at::Tensor expected = is_expert_bias(p) ? p.value : p.value.to(at::kBFloat16).to(at::kFloat);
    EXPECT_TRUE(at::equal(rounded.at(p.name).value, expected)) << p.name;
  }
  // Frozen weights lie in the file, experts one by one; the arithmetic is the same but for how rows are put together.
  const Parameters mapped = load("bf16", {.frozen_bf16 = [](const Parameter& p) { return p.name != "image_newline"; }});
  EXPECT_FALSE(mapped.at("language.model.layers.1.mlp.experts.*.up_proj.weight").mapped.empty());
  EXPECT_EQ(mapped.trainable().size(), 1u);
  const double rounded_loss = DeepseekVl2(rounded).forward(batch, {}).loss_sum.item<double>();
  EXPECT_NEAR(DeepseekVl2(mapped).forward(batch, {}).loss_sum.item<double>(), rounded_loss, 1e-6 * rounded_loss);
}

TEST_P(Twin, Bf16ComputeStaysNearFloat32) {
  const MicroBatch batch = packed(samples(), true);
  const DeepseekVl2 model(parameters_);
  const ForwardResult exact = model.forward(batch, {});
  exact.loss.backward();
  const auto expected = gradients(parameters_);
  parameters_.zero_grad();
  ForwardOptions options;
  options.compute = DType::kBF16;
  const ForwardResult result = model.forward(batch, options);
  result.loss.backward();
  // A rounding is 2^-9 at most, and a dozen matrices follow each other.
  EXPECT_NEAR(result.loss_sum.item<double>(), exact.loss_sum.item<double>(), 0.02 * exact.loss_sum.item<double>());
  EXPECT_NE(result.loss_sum.item<double>(), exact.loss_sum.item<double>());
  for (const auto& [name, grad] : gradients(parameters_)) {
    EXPECT_EQ(grad.scalar_type(), at::kFloat);
    // A token that goes to another expert changes an expert's gradient in whole: of those only the sum is near.
    if (name == "language.lm_head.weight" || name.starts_with("projector.")) {
      EXPECT_LE(relative_distance(grad, expected.at(name)), 0.2) << name;
    }
  }
}

TEST_P(Twin, GeneratesInBf16WithRoundedFactorsAndNothingElse) {
  const DeepseekVl2 model(parameters_);
  const MicroBatch batch = random_sample(config(), 11, 9, {{1, 1}});
  MultimodalPrompt prompt;
  prompt.input_ids = batch.input_ids;
  prompt.images_seq_mask = batch.vision_mask;
  prompt.images = batch.images;
  const Generation exact = model.generate(prompt, 6), rounded = model.generate(prompt, 6, DType::kBF16);
  EXPECT_EQ(rounded.tokens[0], exact.tokens[0]);
  EXPECT_NE(rounded.margins, exact.margins);
  for (size_t i = 0; i < exact.margins.size() && i < rounded.margins.size(); ++i) {
    EXPECT_NEAR(rounded.margins[i], exact.margins[i], 0.05) << "token " << i;
    if (rounded.tokens[i] != exact.tokens[i]) {  // two logits within the rounding: what follows is another text
      EXPECT_LE(exact.margins[i], 0.05F) << "token " << i;
      break;
    }
  }
  // Logits that were rounded themselves would be bf16 numbers, and so would the difference of two as near as these.
  EXPECT_NE(rounded.margins[0], at::tensor(rounded.margins[0]).to(at::kBFloat16).item<float>());
}

TEST_P(Twin, GeneratesWhatTheWholeForwardPassPredicts) {
  const DeepseekVl2 model(parameters_);
  MicroBatch batch = random_sample(config(), 11, 9, {{1, 1}});
  MultimodalPrompt prompt;
  prompt.input_ids = batch.input_ids;
  prompt.images_seq_mask = batch.vision_mask;
  prompt.images = batch.images;
  const Generation generation = model.generate(prompt, 12);
  ASSERT_FALSE(generation.tokens.empty());
  ForwardOptions options;
  options.all_logits = true;
  for (size_t i = 0; i < generation.tokens.size(); ++i) {
    const at::Tensor logits = model.forward(batch, options).logits[batch.num_tokens() - 1];
    const auto [values, tokens] = logits.topk(2);
    EXPECT_EQ(generation.tokens[i], tokens[0].item<int64_t>()) << "token " << i;
    EXPECT_NEAR(generation.margins[i], (values[0] - values[1]).item<double>(), 1e-4) << "token " << i;
    batch.positions.push_back(static_cast<int32_t>(batch.num_tokens()));
    batch.input_ids.push_back(generation.tokens[i]);
    batch.labels.push_back(kIgnoredLabel);
    batch.vision_mask.push_back(0);
    batch.sample_starts = batch.row_starts = {0, batch.num_tokens()};
  }
}

TEST_P(Twin, AdapterIsTheSameAsTheMergedWeight) {
  const MicroBatch batch = packed(samples(), true);
  const std::vector<std::string> names = {"projector.layers.0.weight",
                                          "language.model.layers.0.mlp.up_proj.weight",
                                          "language.model.layers.1.self_attn.o_proj.weight",
                                          "language.model.layers.1.mlp.experts.*.down_proj.weight",
                                          "language.model.layers.2.mlp.shared_experts.gate_proj.weight",
                                          "language.lm_head.weight"};
  Adapters adapters;
  for (const std::string& name : names) {
    const Shape& shape = parameters_.at(name).shape;
    Shape a(shape), b(shape);
    a[a.size() - 2] = b[b.size() - 1] = 3;
    adapters[name] = {at::randn(a).mul_(0.1).requires_grad_(), at::randn(b).mul_(0.1).requires_grad_(), 1.5, 0.0};
  }
  const auto run = [&](const DeepseekVl2& model, const ForwardOptions& options) {
    const ForwardResult result = model.forward(batch, options);
    result.loss.backward();
    return result.loss_sum.item<double>();
  };
  const double adapted = run(DeepseekVl2(parameters_, &adapters), {});
  std::map<std::string, at::Tensor> grads;
  for (auto& [name, adapter] : adapters) {
    grads[name] = adapter.a.grad().clone();
    EXPECT_GT(grads[name].norm().item<double>(), 0.0) << name;
    adapter.a.mutable_grad() = at::Tensor();
  }
  // Recomputed, with dropout: the same mask both times.
  ForwardOptions options;
  for (auto& [name, adapter] : adapters) adapter.dropout = 0.25;
  const double dropped = run(DeepseekVl2(parameters_, &adapters), options);
  EXPECT_NE(dropped, adapted);
  for (auto& [name, adapter] : adapters) {
    grads[name] = adapter.a.grad().clone();
    adapter.a.mutable_grad() = at::Tensor();
  }
  options.recompute_layers = true;
  EXPECT_EQ(run(DeepseekVl2(parameters_, &adapters), options), dropped);
  for (auto& [name, adapter] : adapters) EXPECT_TRUE(at::equal(grads[name], adapter.a.grad())) << name;

  const c10::NoGradGuard no_gradients;
  for (const auto& [name, adapter] : adapters) {
    at::Tensor value = parameters_.at(name).value.detach();
    value.add_(at::matmul(adapter.b, adapter.a), adapter.scale);
  }
  const double merged = DeepseekVl2(parameters_).forward(batch, {}).loss_sum.item<double>();
  EXPECT_NEAR(adapted, merged, 1e-5 * merged);
}

TEST_P(Twin, HiddenKeysDoNotMatter) {
  MicroBatch batch = random_sample(config(), 21, 40);
  batch.key_mask.assign(batch.input_ids.size(), 1);
  for (const size_t t : {size_t{3}, size_t{17}, size_t{30}}) batch.key_mask[t] = 0;
  ForwardOptions options;
  options.all_logits = true;
  const DeepseekVl2 model(parameters_);
  const at::Tensor before = model.forward(batch, options).logits;
  batch.input_ids[17] = (batch.input_ids[17] + 1) % 300;
  const at::Tensor after = model.forward(batch, options).logits;
  EXPECT_TRUE(at::allclose(before.narrow(0, 18, 20), after.narrow(0, 18, 20), 1e-5, 1e-5));
  EXPECT_FALSE(at::allclose(before[17], after[17], 1e-3, 1e-3));
}

TEST(Forward, RefusesWhatDoesNotFit) {
  const Parameters parameters = Parameters::random(preset_config("test-tiny"), {});
  const DeepseekVl2 model(parameters);
  const MicroBatch good = random_sample(parameters.config(), 1, 9, {{1, 1}});
  EXPECT_THROW(model.forward({}, {}), Error);
  MicroBatch bad = good;
  bad.input_ids.back() = 320;
  EXPECT_THROW(model.forward(bad, {}), Error);
  bad = good;
  bad.vision_mask.back() = 1;
  EXPECT_THROW(model.forward(bad, {}), Error);
  bad = good;
  bad.images[0].pixels.pop_back();
  EXPECT_THROW(model.forward(bad, {}), Error);
  bad = good;
  bad.labels.pop_back();
  EXPECT_THROW(model.forward(bad, {}), Error);
}

TEST(Forward, NothingSupervisedIsALossOfZeroWithTheBalanceLossesGradient) {
  Parameters parameters = Parameters::random(preset_config("test-tiny"), {});
  ForwardOptions options;
  options.aux_loss_alpha = 1.0;
  const ForwardResult result =
      DeepseekVl2(parameters).forward(random_sample(parameters.config(), 1, 30, {}, 0.0), options);
  EXPECT_EQ(result.supervised, 0);
  EXPECT_EQ(result.loss_sum.item<double>(), 0.0);
  result.loss.backward();
  EXPECT_GT(parameters.grad("language.model.layers.1.mlp.gate.weight").norm().item<double>(), 0.0);
}

}  // namespace
}  // namespace vl2::train

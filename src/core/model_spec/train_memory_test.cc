#include "core/model_spec/train_memory.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace vl2 {
namespace {

int64_t used_parameters(const ModelConfig& config) {
  const ParameterCounts counts = count_parameters(config);
  return counts.vision + counts.projector + counts.language;
}

TEST(TrainMemory, FullTrainingTakesEighteenBytesAParameter) {
  const ModelConfig config = preset_config("tiny");
  const int64_t n = used_parameters(config);
  const TrainMemory plan = plan_train_memory(config, {});
  EXPECT_EQ(plan.trained_parameters, n);
  EXPECT_EQ(plan.frozen_parameters, 0);
  EXPECT_EQ(plan.weights, 6 * n);  // float32 masters and their bf16 copies
  EXPECT_EQ(plan.gradients, 4 * n);
  EXPECT_EQ(plan.optimizer, 8 * n);
  TrainMemoryInput input;
  input.bf16_moments = true;
  EXPECT_EQ(plan_train_memory(config, input).optimizer, 4 * n);
  input.bf16_compute = false;
  EXPECT_EQ(plan_train_memory(config, input).weights, 4 * n);
}

TEST(TrainMemory, FrozenWeightsTakeTwoBytesAndNothingElse) {
  const ModelConfig config = preset_config("tiny");
  TrainMemoryInput input;
  input.trains = [](const WeightSpec& spec) { return !spec.name.starts_with("language."); };
  const TrainMemory plan = plan_train_memory(config, input);
  const ParameterCounts counts = count_parameters(config);
  EXPECT_EQ(plan.frozen_parameters, counts.language);
  EXPECT_EQ(plan.trained_parameters, counts.vision + counts.projector);
  EXPECT_EQ(plan.weights, 2 * counts.language + 6 * plan.trained_parameters);
  EXPECT_EQ(plan.optimizer, 8 * plan.trained_parameters);
}

TEST(TrainMemory, AnAdapterCountsAloneOverAFrozenModel) {
  const ModelConfig config = preset_config("tiny");
  TrainMemoryInput input;
  input.trains = [](const WeightSpec&) { return false; };
  input.adapter_parameters = 1000000;
  const TrainMemory plan = plan_train_memory(config, input);
  EXPECT_EQ(plan.gradients, 4000000);
  EXPECT_EQ(plan.optimizer, 8000000);
  EXPECT_EQ(plan.weights, 2 * used_parameters(config) + 6000000);
}

// The formula of the header for one small model, summed by hand.
TEST(TrainMemory, ActivationsAreTheFormulasSum) {
  const ModelConfig config = preset_config("test-small");  // 5 x 5 patches, width 32, 2 blocks; hidden 48, 3 layers
  TrainMemoryInput input;
  input.tokens = 100;
  input.longest_sample = 40;
  input.tiles = 3;
  const double mlp = static_cast<double>(config.vision.mlp_hidden());
  const double block = 3 * (25 * (8 * 32 + 2 * mlp) + 4 * 25 * 25) * 2;
  const double projector = 3 * 9 * (32 * 4 + 2 * 48 + 48) * 2;
  const double attention = 4 * 4 * 24 + 2 * 4 * 10 + 2 * 24 + 8;
  const double dense = 4 * 80, moe = 3 * (4 * 20 + 2 * 48) + 4 * 2 * 20 + 2 * 8;
  const auto layer = [&](double m) { return 100 * (5 * 48 + attention + m + 4 * 40) * 2; };
  const double tail = 3 * 3 * 72 * 72 * 4 + 100 * 320 * (2 + 8.0);
  const double all = 2 * block + projector + layer(dense) + 2 * layer(moe) + layer(moe) + tail;
  EXPECT_EQ(plan_train_memory(config, input).activations, static_cast<int64_t>(all));

  // Fused: a logarithm in place of 25 and 40 scores, and no SiLU.
  input.fused = true;
  const double fused =
      all - 2 * 3 * 4 * 25 * (25 * 2 - 4) - 4 * 100 * 4 * (40 * 2 - 4) - 2 * 100 * (80 + 3 * (3 * 20 + 2 * 20));
  EXPECT_EQ(plan_train_memory(config, input).activations, static_cast<int64_t>(fused));
  input.fused = false;

  input.recompute_language = true;
  input.recomputed_vision_blocks = 1;
  const double some = block + 3 * 25 * 32 * 2 + projector + 3 * 100 * 48 * 2 + layer(moe) + tail;
  EXPECT_EQ(plan_train_memory(config, input).activations, static_cast<int64_t>(some));

  // Nothing before the decoder trains: the encoder keeps nothing.
  input.trains = [](const WeightSpec& spec) { return spec.name.starts_with("language."); };
  EXPECT_EQ(plan_train_memory(config, input).activations, static_cast<int64_t>(3 * 100 * 48 * 2 + layer(moe) + tail));
}

TEST(TrainMemory, ItIsRefusedWithTheNumbersWhereThereIsLess) {
  const TrainMemory plan = plan_train_memory(preset_config("small"), {});
  EXPECT_NO_THROW(check_train_memory(plan, plan.total()));
  try {
    check_train_memory(plan, int64_t{24} << 30);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("only 24.00 GiB are available"), std::string::npos) << error.what();
  }
  EXPECT_NE(train_memory_text(plan).find("optimiser"), std::string::npos);
}

}  // namespace
}  // namespace vl2

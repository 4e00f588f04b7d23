#include "core/model_spec/work.h"

#include <gtest/gtest.h>

#include "core/model_spec/weight_schema.h"

namespace vl2 {
namespace {

// SigLIP-SO400M on one 384 x 384 tile: the encoder's part counted by hand, 66 GFLOP of it attention.
TEST(Work, VisionIsCountedAsByHand) {
  const double patches = 729, w = 1152, hidden = 4304;
  const double linears = 27 * 2 * patches * (4 * w * w + 2 * w * hidden) + 2 * patches * w * 588;
  const double attention = 27 * 4 * patches * patches * w;
  const double projector = 2 * 196 * (4 * w * 1280 + 1280.0 * 1280);
  EXPECT_NEAR(vision_flops_per_tile(preset_config("tiny")), linears + attention + projector, 1.0);
}

TEST(Work, OneTokenOfPrefillUsesTheActivatedParameters) {
  for (const char* preset : {"tiny", "small", "base"}) {
    const ModelConfig config = preset_config(preset);
    const LanguageConfig& c = config.language;
    const int64_t v_dim = c.use_mla ? c.v_head_dim : c.qk_head_dim();
    const auto attention =
        static_cast<double>(2 * c.num_hidden_layers * c.num_attention_heads * (c.qk_head_dim() + v_dim));
    const auto products = 2.0 * static_cast<double>(count_parameters(config).activated_language);
    // Norms are activated parameters, but no products.
    EXPECT_NEAR(prefill_flops(config, 1), products + attention, 0.004 * products) << preset;
  }
}

TEST(Work, LogitsAreCountedOnceHoweverLongThePrompt) {
  const ModelConfig config = preset_config("tiny");
  const auto head = 2.0 * static_cast<double>(config.language.vocab_size * config.language.hidden_size);
  const double one = prefill_flops(config, 1), ten = prefill_flops(config, 10);
  EXPECT_LT(ten, 10 * one - 8.9 * head);
}

TEST(Work, BytesOfATokenAreItsExpertsAndWhatIsCached) {
  const ModelConfig config = preset_config("small");
  const StoredBytes stored{.cache = 2};
  const auto activated = static_cast<double>(count_parameters(config).activated_language);
  EXPECT_NEAR(weight_bytes_per_token(config, stored), 2 * activated, 0.01 * 2 * activated);
  EXPECT_DOUBLE_EQ(cache_bytes_per_token(config, stored, 4096), 4096.0 * 576 * 27 * 2);
  EXPECT_DOUBLE_EQ(cache_bytes_per_token(preset_config("tiny"), stored, 10), 10.0 * 2 * 1280 * 12 * 2);
}

TEST(Work, QuantisedBytesAreThoseOfTheirMatrices) {
  // All sizes of Small's language model are multiples of 64: no padding but the router's and norms' float32.
  const ModelConfig config = preset_config("small");
  const double bf16 = weight_bytes_per_token(config, {.format = ModelFormat::kBf16});
  const double q8 = weight_bytes_per_token(config, {.format = ModelFormat::kQ8});
  const double q4 = weight_bytes_per_token(config, {.format = ModelFormat::kQ4});
  const double mixed = weight_bytes_per_token(config, {.format = ModelFormat::kMixed});
  // 8 and 4 bits a value and a 16-bit scale for 128 of them.
  EXPECT_NEAR(q8 / bf16, (8 + 0.125) / 16, 0.01);
  EXPECT_NEAR(q4 / bf16, (4 + 0.125) / 16, 0.02);  // kv_b is q8
  EXPECT_LT(q4, mixed);
  EXPECT_LT(mixed, q8);
  EXPECT_DOUBLE_EQ(vision_weight_bytes(config, {.format = ModelFormat::kMixed}),
                   vision_weight_bytes(config, {.format = ModelFormat::kBf16}));
  EXPECT_DOUBLE_EQ(vision_weight_bytes(config, {.format = ModelFormat::kQ4}),
                   vision_weight_bytes(config, {.format = ModelFormat::kQ8}));
}

TEST(Work, ABatchReadsAnExpertOnceHoweverManyTokensChoseIt) {
  const ModelConfig config = preset_config("tiny");
  const LanguageConfig& c = config.language;
  EXPECT_DOUBLE_EQ(expected_experts(c, 1), 6);
  EXPECT_NEAR(expected_experts(c, 2), 6 + 6 * 58.0 / 64, 1e-9);  // the second misses what the first has
  EXPECT_NEAR(expected_experts(c, 1000), 64, 1e-9);
  EXPECT_DOUBLE_EQ(expected_experts(preset_config("tiny").language, 0), 0);
  const StoredBytes stored;
  const double expert = 3.0 * 896 * 1280 * 2, layers = 11;
  EXPECT_NEAR(step_weight_bytes(config, stored, 1, 10) - step_weight_bytes(config, stored, 1, 6), 4 * expert * layers,
              1.0);
  EXPECT_NEAR(step_weight_bytes(config, stored, 5, 6) - step_weight_bytes(config, stored, 1, 6), 4 * 1280 * 2, 1e-3);
  EXPECT_DOUBLE_EQ(step_weight_bytes(config, stored, 1, 6), weight_bytes_per_token(config, stored));
}

}  // namespace
}  // namespace vl2

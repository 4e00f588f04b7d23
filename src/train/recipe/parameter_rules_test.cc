#include "train/recipe/parameter_rules.h"

#include <gtest/gtest.h>

#include <map>

#include "core/base/error.h"

namespace vl2::train {
namespace {

Recipe recipe_of(Stage stage) {
  Recipe recipe;
  recipe.name = "test";
  recipe.stage = stage;
  recipe.vision_lr_multiplier = 0.25;
  recipe.projector_lr_multiplier = 3;
  return recipe;
}

std::map<std::string, ParameterRule> rules_of(const Recipe& recipe, const char* preset = "test-base") {
  std::map<std::string, ParameterRule> rules;
  for (const ParameterRule& rule : parameter_rules(recipe, preset_config(preset))) rules[rule.name] = rule;
  return rules;
}

TEST(ParameterRules, PatternsMatchWholeNames) {
  EXPECT_TRUE(matches_pattern("*", ""));
  EXPECT_TRUE(matches_pattern("vision.*", "vision.blocks.0.norm1.weight"));
  EXPECT_FALSE(matches_pattern("vision", "vision.pos_embed"));
  EXPECT_TRUE(matches_pattern("*.layers.?.*_proj.*", "language.model.layers.2.self_attn.q_proj.weight"));
  EXPECT_FALSE(matches_pattern("*.layers.?.*", "language.model.layers.12.mlp"));
  EXPECT_TRUE(matches_pattern("*a*ab", "aaab"));
  EXPECT_FALSE(matches_pattern("*.bias", "a.bias.x"));
  EXPECT_FALSE(matches_pattern("", "a"));
}

TEST(ParameterRules, MultipliersFollowTheModule) {
  const auto rules = rules_of(recipe_of(Stage::kSft));
  EXPECT_EQ(rules.at("vision.pos_embed").lr_multiplier, 0.25);
  EXPECT_EQ(rules.at("projector.layers.0.weight").lr_multiplier, 3);
  EXPECT_EQ(rules.at("image_newline").lr_multiplier, 3);
  EXPECT_EQ(rules.at("view_seperator").lr_multiplier, 3);
  EXPECT_EQ(rules.at("language.lm_head.weight").lr_multiplier, 1);
}

TEST(ParameterRules, OneDimensionalTensorsAndExclusionsDoNotDecay) {
  Recipe recipe = recipe_of(Stage::kSft);
  recipe.no_decay = {"*.embed_tokens.weight"};
  for (const auto& [name, rule] : rules_of(recipe)) {
    const bool vector =
        name.ends_with("bias") || name.find("norm") != name.npos || name == "image_newline" || name == "view_seperator";
    const bool excluded = name == "language.model.embed_tokens.weight";
    EXPECT_EQ(rule.decay, !vector && !excluded) << name;
  }
}

TEST(ParameterRules, AlignmentTrainsEncoderAndProjectorOnly) {
  Recipe recipe = recipe_of(Stage::kAlignment);
  recipe.freeze = {"language"};
  for (const auto& [name, rule] : rules_of(recipe))
    EXPECT_EQ(rule.trainable, !name.starts_with("language.") && !name.starts_with("vision.attn_pool.")) << name;
}

TEST(ParameterRules, EverythingButBiasAndUnusedTensorsTrainsOtherwise) {
  for (const auto& [name, rule] : rules_of(recipe_of(Stage::kPretraining)))
    EXPECT_EQ(rule.trainable, !name.ends_with("e_score_correction_bias") && !name.starts_with("vision.attn_pool."))
        << name;
}

TEST(ParameterRules, FreezePatternsReachSingleLayers) {
  Recipe recipe = recipe_of(Stage::kSft);
  recipe.freeze = {"vision.blocks.0.*", "*.gate.weight"};
  const auto rules = rules_of(recipe);
  EXPECT_FALSE(rules.at("vision.blocks.0.attn.qkv.weight").trainable);
  EXPECT_TRUE(rules.at("vision.blocks.1.attn.qkv.weight").trainable);
  EXPECT_FALSE(rules.at("language.model.layers.1.mlp.gate.weight").trainable);
  EXPECT_TRUE(rules.at("language.model.layers.1.mlp.experts.0.gate_proj.weight").trainable);
}

TEST(ParameterRules, LoraTrainsNoTensorOfTheModel) {
  for (const auto& [name, rule] : rules_of(recipe_of(Stage::kLora))) EXPECT_FALSE(rule.trainable) << name;
}

TEST(ParameterRules, APatternThatMatchesNothingIsAnError) {
  Recipe recipe = recipe_of(Stage::kSft);
  recipe.freeze = {"vision.blocks.99.*"};
  try {
    rules_of(recipe);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("\"vision.blocks.99.*\" matches no tensor"), std::string::npos);
  }
}

}  // namespace
}  // namespace vl2::train

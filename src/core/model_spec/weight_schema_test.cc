#include "core/model_spec/weight_schema.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace vl2 {
namespace {

std::map<std::string, WeightSpec> by_name(const ModelConfig& config) {
  std::map<std::string, WeightSpec> map;
  for (const WeightSpec& spec : weight_schema(config))
    EXPECT_TRUE(map.emplace(spec.name, spec).second) << spec.name << " appears twice";
  return map;
}

Shape shape_of(const std::map<std::string, WeightSpec>& schema, const std::string& name) {
  const auto it = schema.find(name);
  return it == schema.end() ? Shape{-1} : it->second.shape;
}

TEST(WeightSchema, CountsTheParametersOfTheReleases) {
  const auto check = [](const char* name, int64_t projector, int64_t language, int64_t total,
                        int64_t activated_language, int64_t activated, size_t tensors) {
    const ModelConfig config = preset_config(name);
    const ParameterCounts counts = count_parameters(config);
    EXPECT_EQ(counts.vision, 412'987'248) << name;
    EXPECT_EQ(counts.projector, projector) << name;
    EXPECT_EQ(counts.language, language) << name;
    EXPECT_EQ(counts.total, total) << name;
    EXPECT_EQ(counts.activated_language, activated_language) << name;
    EXPECT_EQ(counts.activated, activated) << name;
    EXPECT_EQ(weight_schema(config).size(), tensors) << name;
  };
  check("tiny", 7'541'760, 2'934'734'080, 3'370'501'440, 574'127'360, 994'656'368, 2582);
  check("small", 13'639'680, 15'706'484'224, 16'148'349'504, 2'451'435'008, 2'878'061'936, 5639);
  check("base", 18'360'320, 27'033'548'328, 27'480'134'248, 4'124'126'720, 4'555'474'288, 6973);
}

TEST(WeightSchema, ShapesOfTheReleases) {
  const auto base = by_name(preset_config("base"));
  const std::string layer = "language.model.layers.1.";
  EXPECT_EQ(shape_of(base, "vision.patch_embed.proj.weight"), (Shape{1152, 3, 14, 14}));
  EXPECT_EQ(shape_of(base, "vision.pos_embed"), (Shape{1, 729, 1152}));
  EXPECT_EQ(shape_of(base, "vision.attn_pool.kv.weight"), (Shape{2304, 1152}));
  EXPECT_EQ(shape_of(base, "projector.layers.0.weight"), (Shape{2560, 4608}));
  EXPECT_EQ(shape_of(base, "projector.layers.2.weight"), (Shape{2560, 2560}));
  EXPECT_EQ(shape_of(base, layer + "self_attn.q_proj.weight"), (Shape{6144, 2560}));
  EXPECT_EQ(shape_of(base, layer + "self_attn.kv_a_proj_with_mqa.weight"), (Shape{576, 2560}));
  EXPECT_EQ(shape_of(base, layer + "self_attn.kv_b_proj.weight"), (Shape{8192, 512}));
  EXPECT_EQ(shape_of(base, layer + "self_attn.o_proj.weight"), (Shape{2560, 4096}));
  EXPECT_EQ(shape_of(base, layer + "mlp.gate.e_score_correction_bias"), (Shape{72}));
  EXPECT_EQ(shape_of(base, layer + "mlp.experts.71.down_proj.weight"), (Shape{2560, 1536}));
  EXPECT_EQ(shape_of(base, layer + "mlp.shared_experts.up_proj.weight"), (Shape{3072, 2560}));
  EXPECT_EQ(shape_of(base, "language.lm_head.weight"), (Shape{129280, 2560}));
  const auto tiny = by_name(preset_config("tiny"));
  EXPECT_EQ(shape_of(tiny, layer + "self_attn.k_proj.weight"), (Shape{1280, 1280}));
  EXPECT_EQ(shape_of(tiny, "language.model.layers.0.mlp.down_proj.weight"), (Shape{1280, 6848}));
  EXPECT_FALSE(tiny.contains(layer + "mlp.gate.e_score_correction_bias"));
}

TEST(WeightSchema, RolesSayHowATensorIsUsed) {
  const auto base = by_name(preset_config("test-base"));
  const auto role = [&](const std::string& name) { return base.at(name).role; };
  EXPECT_EQ(role("vision.attn_pool.mlp.fc1.bias"), WeightRole::kUnused);
  EXPECT_EQ(role("vision.attn_pool.latent"), WeightRole::kUnused);
  EXPECT_EQ(role("vision.pos_embed"), WeightRole::kVector);
  EXPECT_EQ(role("vision.blocks.0.attn.qkv.weight"), WeightRole::kMatrix);
  EXPECT_EQ(role("image_newline"), WeightRole::kVector);
  EXPECT_EQ(role("language.model.embed_tokens.weight"), WeightRole::kEmbedding);
  EXPECT_EQ(role("language.lm_head.weight"), WeightRole::kMatrix);
  EXPECT_EQ(role("language.model.layers.1.mlp.gate.weight"), WeightRole::kRouter);
  EXPECT_EQ(role("language.model.layers.1.mlp.gate.e_score_correction_bias"), WeightRole::kVector);
  EXPECT_EQ(role("language.model.layers.1.mlp.experts.0.up_proj.weight"), WeightRole::kExpert);
  EXPECT_EQ(role("language.model.layers.1.mlp.shared_experts.up_proj.weight"), WeightRole::kMatrix);
  EXPECT_EQ(role("language.model.layers.0.mlp.up_proj.weight"), WeightRole::kMatrix);
}

TEST(WeightSchema, AttentionBiasReachesOnlyTheProjectionsThatHaveIt) {
  const auto biases = [](ModelConfig config) {
    config.language.attention_bias = true;
    std::set<std::string> names;
    const std::string prefix = "language.model.layers.0.";
    for (const auto& [name, spec] : by_name(config))
      if (name.starts_with(prefix) && name.ends_with(".bias")) names.insert(name.substr(prefix.size()));
    return names;
  };
  ModelConfig mla = preset_config("test-small");
  EXPECT_EQ(biases(mla), (std::set<std::string>{"self_attn.kv_a_proj_with_mqa.bias", "self_attn.o_proj.bias"}));
  mla.language.q_lora_rank = 12;
  EXPECT_EQ(biases(mla), (std::set<std::string>{"self_attn.kv_a_proj_with_mqa.bias", "self_attn.o_proj.bias",
                                                "self_attn.q_a_proj.bias"}));
  EXPECT_EQ(biases(preset_config("test-tiny")),
            (std::set<std::string>{"self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias",
                                   "self_attn.o_proj.bias"}));
}

TEST(WeightSchema, TiedEmbeddingsHaveNoHeadOfTheirOwn) {
  ModelConfig config = preset_config("test-tiny");
  const ParameterCounts untied = count_parameters(config);
  config.language.tie_word_embeddings = true;
  const ParameterCounts tied = count_parameters(config);
  EXPECT_FALSE(by_name(config).contains("language.lm_head.weight"));
  EXPECT_EQ(untied.total - tied.total, config.language.vocab_size * config.language.hidden_size);
  EXPECT_EQ(untied.activated, tied.activated);
}

TEST(WeightSchema, ADenseModelActivatesEverything) {
  ModelConfig config = preset_config("test-tiny");
  config.language.n_routed_experts = std::nullopt;
  const ParameterCounts counts = count_parameters(config);
  EXPECT_EQ(counts.activated_language, counts.language - config.language.vocab_size * config.language.hidden_size);
}

TEST(WeightSchema, TheProjectorHasTwoLinearsEvenForDepthOne) {
  ModelConfig config = preset_config("test-tiny");
  config.projector.mlp_ratio = 2;
  for (const int64_t depth : {1, 2, 4}) {
    config.projector.depth = depth;
    const auto schema = by_name(config);
    const int64_t last = depth < 2 ? 2 : 2 * (depth - 1);
    EXPECT_EQ(shape_of(schema, "projector.layers.0.weight"), (Shape{96, 128}));
    EXPECT_EQ(shape_of(schema, fmt::format("projector.layers.{}.weight", last)), (Shape{48, 96}));
    EXPECT_FALSE(schema.contains(fmt::format("projector.layers.{}.weight", last + 2)));
  }
}

TEST(WeightSchema, TheLargestConfigAcceptedDoesNotOverflow) {
  ModelConfig config = preset_config("test-small");
  LanguageConfig& language = config.language;
  language.hidden_size = config.projector.n_embed = 1 << 20;
  language.intermediate_size = language.moe_intermediate_size = 1 << 20;
  language.vocab_size = 1 << 24;
  language.num_hidden_layers = 1024;
  language.n_routed_experts = 64;
  language.n_shared_experts = 64;
  language.num_experts_per_tok = 64;
  language.num_attention_heads = 1 << 12;
  language.qk_nope_head_dim = language.qk_rope_head_dim = language.v_head_dim = 1 << 14;
  language.q_lora_rank = language.kv_lora_rank = 1 << 20;
  config.vision.width = config.projector.input_dim = 1 << 18;
  config.vision.layers = 1024;
  config.projector.mlp_ratio = 64;
  config.projector.depth = 64;
  config.projector.downsample_ratio = 5;
  validate_model_config(config, "largest");
  double total = 0;
  for (const WeightSpec& spec : weight_schema(config)) {
    double n = 1;
    for (const int64_t d : spec.shape) n *= static_cast<double>(d);
    total += n;
  }
  EXPECT_LT(total * 8, 0x1p63);
  EXPECT_NEAR(static_cast<double>(count_parameters(config).total) / total, 1.0, 1e-9);
}

}  // namespace
}  // namespace vl2

#include "core/model_spec/format_plan.h"

#include <gtest/gtest.h>

#include <map>

namespace vl2 {
namespace {

std::string form_of(ModelFormat format, const ModelConfig& config, const std::string& name) {
  for (const WeightSpec& weight : weight_schema(config)) {
    if (weight.name != name) continue;
    const auto form = panel_format_of(format, weight, config);
    return form ? std::string(panel_format_name(*form)) : "as it is";
  }
  return "no such tensor";
}

TEST(FormatPlan, EveryRoleGetsTheFormOfTheTable) {
  const ModelConfig small = preset_config("small");
  using Row = std::map<ModelFormat, std::string>;
  const Row as_it_is = {{ModelFormat::kBf16, "as it is"},
                        {ModelFormat::kQ8, "as it is"},
                        {ModelFormat::kQ4, "as it is"},
                        {ModelFormat::kMixed, "as it is"}};
  const Row expert = {
      {ModelFormat::kBf16, "bf16"}, {ModelFormat::kQ8, "q8"}, {ModelFormat::kQ4, "q4"}, {ModelFormat::kMixed, "q4"}};
  const Row language = {
      {ModelFormat::kBf16, "bf16"}, {ModelFormat::kQ8, "q8"}, {ModelFormat::kQ4, "q4"}, {ModelFormat::kMixed, "q8"}};
  const Row vision = {
      {ModelFormat::kBf16, "bf16"}, {ModelFormat::kQ8, "q8"}, {ModelFormat::kQ4, "q8"}, {ModelFormat::kMixed, "bf16"}};
  const Row latent = {
      {ModelFormat::kBf16, "bf16"}, {ModelFormat::kQ8, "q8"}, {ModelFormat::kQ4, "q8"}, {ModelFormat::kMixed, "q8"}};
  const std::string layer = "language.model.layers.3.", dense = "language.model.layers.0.";
  const std::map<std::string, Row> expected = {
      {layer + "mlp.experts.5.gate_proj.weight", expert},
      {layer + "mlp.experts.5.down_proj.weight", expert},
      {layer + "mlp.shared_experts.up_proj.weight", language},
      {dense + "mlp.up_proj.weight", language},
      {layer + "self_attn.q_proj.weight", language},
      {layer + "self_attn.o_proj.weight", language},
      {layer + "self_attn.kv_a_proj_with_mqa.weight", language},
      {"language.lm_head.weight", language},
      {layer + "self_attn.kv_b_proj.weight", latent},
      {"vision.patch_embed.proj.weight", vision},
      {"vision.blocks.0.mlp.fc1.weight", vision},
      {"projector.layers.2.weight", vision},
      {layer + "mlp.gate.weight", as_it_is},
      {layer + "input_layernorm.weight", as_it_is},
      {"language.model.embed_tokens.weight", as_it_is},
      {"vision.pos_embed", as_it_is},
      {"vision.blocks.0.mlp.fc1.bias", as_it_is},
      {"vision.attn_pool.q.weight", as_it_is},
  };
  for (const auto& [name, row] : expected)
    for (const auto& [format, form] : row)
      EXPECT_EQ(form_of(format, small, name), form) << name << " in " << model_format_name(format);
}

TEST(FormatPlan, NamesAreReadBack) {
  for (const ModelFormat format : {ModelFormat::kBf16, ModelFormat::kQ8, ModelFormat::kQ4, ModelFormat::kMixed})
    EXPECT_EQ(parse_model_format(model_format_name(format)), format);
  EXPECT_FALSE(parse_model_format("q2"));
  EXPECT_FALSE(parse_model_format(""));
}

TEST(FormatPlan, BytesAreThoseOfTheMatricesThatAreStored) {
  const ModelConfig small = preset_config("small");
  const LanguageConfig& c = small.language;
  int found = 0;
  for (const WeightSpec& weight : weight_schema(small)) {
    if (weight.name == "language.model.layers.1.self_attn.kv_b_proj.weight") {
      ++found;
      // 16 heads of W_UK [128, 512], W_UV [128, 512] and W_UK^T [512, 128]: all without padding, 2 bytes a value.
      EXPECT_EQ(panel_tensor_bytes(PanelFormat::kBf16, weight, small), 16 * 3 * 128 * 512 * 2);
      EXPECT_EQ(panel_tensor_bytes(PanelFormat::kQ8, weight, small),
                c.num_attention_heads *
                    (2 * matrix_bytes(PanelFormat::kQ8, 128, 512) + matrix_bytes(PanelFormat::kQ8, 512, 128)));
    }
    if (weight.name == "vision.patch_embed.proj.weight") {
      ++found;
      EXPECT_EQ(panel_tensor_bytes(PanelFormat::kBf16, weight, small), 1152 * 608 * 2);  // 588 columns rounded up to 32
    }
  }
  EXPECT_EQ(found, 2);
}

}  // namespace
}  // namespace vl2

#include "core/model_spec/model_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/test_data.h"
#include "core/model_spec/format_plan.h"

namespace vl2 {
namespace {

using nlohmann::json;

// A config.json as the releases write it: what equals the default is left out.
json released_small() {
  return json::parse(R"({
    "model_type": "deepseek_vl_v2", "tile_tag": "2D", "global_view_pos": "head", "torch_dtype": "bfloat16",
    "candidate_resolutions": [[384, 384], [384, 768]],
    "vision_config": {"model_type": "vision", "model_name": "siglip_so400m_patch14_384", "width": 1152, "layers": 27,
                      "patch_size": 14, "mlp_ratio": 3.7362},
    "projector_config": {"model_type": "mlp_projector"},
    "language_config": {"hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408,
                        "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
                        "q_lora_rank": null, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
                        "first_k_dense_replace": 1, "topk_method": "greedy", "n_group": 1, "topk_group": 1,
                        "max_position_embeddings": 4096, "lm_head": true, "rm_head": false}})");
}

json twin(const char* preset) { return json::parse(model_config_json(preset_config(preset))); }

// Applies one change (JSON merge patch cannot say null) and returns the error's code and text.
std::pair<ErrorCode, std::string> rejected(json config, const char* pointer, const json& value) {
  config[json::json_pointer(pointer)] = value;
  try {
    parse_model_config(config.dump(), "config.json");
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  ADD_FAILURE() << pointer << " = " << value << " was accepted";
  return {ErrorCode::kInternal, ""};
}

ModelConfig accepted(json config, const char* pointer, const json& value) {
  config[json::json_pointer(pointer)] = value;
  return parse_model_config(config.dump(), "config.json");
}

TEST(ModelConfig, FillsWhatTheReleasesLeaveOut) {
  ModelConfig expected = preset_config("small");
  expected.candidate_resolutions.resize(2);
  EXPECT_EQ(parse_model_config(released_small().dump(), "config.json"), expected);
}

TEST(ModelConfig, MissingKeysFallBackOnTheOfficialDefaults) {
  json config = released_small();
  config["vision_config"] = {{"model_name", "siglip_so400m_patch14_384"}};
  config["projector_config"] = {{"input_dim", 1024}, {"n_embed", 4096}};
  config["language_config"] = json::object();
  config.erase("candidate_resolutions");
  const ModelConfig parsed = parse_model_config(config.dump(), "config.json");
  EXPECT_EQ(parsed.vision.width, 1024);
  EXPECT_EQ(parsed.vision.layers, 24);
  EXPECT_EQ(parsed.vision.patch_size, 16);
  EXPECT_EQ(parsed.vision.mlp_ratio, 4.0);
  EXPECT_EQ(parsed.language, LanguageConfig());
  EXPECT_EQ(parsed.language.q_lora_rank, 1536);
  EXPECT_EQ(parsed.candidate_resolutions, (std::vector<std::pair<int64_t, int64_t>>{{384, 384}}));
}

TEST(ModelConfig, AnExplicitNullIsNotTheDefault) {
  EXPECT_EQ(parse_model_config(released_small().dump(), "c").language.q_lora_rank, std::nullopt);
  json missing = released_small();
  missing["language_config"].erase("q_lora_rank");
  EXPECT_EQ(parse_model_config(missing.dump(), "c").language.q_lora_rank, 1536);
  const json tiny = twin("test-tiny");
  EXPECT_TRUE(tiny["language_config"]["kv_lora_rank"].is_null());
  EXPECT_EQ(parse_model_config(tiny.dump(), "c").language.kv_lora_rank, 0);
  EXPECT_EQ(accepted(tiny, "/language_config/num_key_value_heads", nullptr).language.num_key_value_heads, 4);
  rejected(released_small(), "/language_config/kv_lora_rank", nullptr);
  rejected(released_small(), "/language_config/hidden_size", nullptr);
}

TEST(ModelConfig, WhatIsWrittenReadsBackTheSame) {
  for (const char* preset : {"tiny", "small", "base", "test-tiny", "test-small", "test-base"}) {
    const ModelConfig config = preset_config(preset);
    EXPECT_EQ(parse_model_config(model_config_json(config), preset), config) << preset;
  }
  ModelConfig config = preset_config("test-small");
  config.language.q_lora_rank = 12;
  config.language.attention_bias = true;
  config.language.tie_word_embeddings = true;
  config.language.topk_method = TopkMethod::kGroupLimitedGreedy;
  config.language.n_group = 4;
  config.language.topk_group = 2;
  config.language.rope_scaling = RopeScaling{RopeScalingType::kYarn, 4.0, 256, 30.0, 2.0, 1.0, 0.707};
  config.global_view_first = false;
  config.projector.depth = 3;
  config.projector.mlp_ratio = 2;
  EXPECT_EQ(parse_model_config(model_config_json(config), "c"), config);
}

TEST(ModelConfig, DerivesTheSizesOfTheReleases) {
  const ModelConfig tiny = preset_config("tiny");
  EXPECT_EQ(tiny.vision.num_patches(), 729);
  EXPECT_EQ(tiny.vision.mlp_hidden(), 4304);
  EXPECT_EQ(tiny.vision.head_dim(), 72);
  EXPECT_EQ(tiny.tokens_per_side(), 14);
  EXPECT_EQ(tiny.language.qk_head_dim(), 128);
  EXPECT_EQ(preset_config("base").language.qk_head_dim(), 192);
  EXPECT_FALSE(tiny.language.is_moe(0));
  EXPECT_TRUE(tiny.language.is_moe(1));
  const auto resolutions = default_candidate_resolutions();
  ASSERT_EQ(resolutions.size(), 23u);
  EXPECT_EQ(resolutions[11], (std::pair<int64_t, int64_t>{2304, 384}));
  EXPECT_EQ(resolutions[22], (std::pair<int64_t, int64_t>{1152, 1152}));
  EXPECT_THROW(preset_config("huge"), Error);
  EXPECT_THROW(preset_config("test-"), Error);
}

TEST(ModelConfig, EveryConfigOfTheGoldenDataParses) {
  VL2_NEED_SHARED(shared);
  const auto load = [&](const char* model) {
    return load_model_config(shared / "golden/models" / model / "config.json");
  };
  const ModelConfig mha = load("a_tiny_mha");
  EXPECT_FALSE(mha.language.use_mla);
  EXPECT_EQ(mha.candidate_resolutions, default_candidate_resolutions());
  EXPECT_EQ(load("b_small_mla").vision.heads, 16);
  EXPECT_EQ(load("b_small_mla_bf16").torch_dtype, "bfloat16");
  const ModelConfig base = load("c_base_noaux");
  EXPECT_EQ(base.language.topk_method, TopkMethod::kNoauxTc);
  EXPECT_EQ(base.language.scoring_func, ScoringFunc::kSigmoid);
  EXPECT_TRUE(base.language.norm_topk_prob);
  EXPECT_EQ(base.language.routed_scaling_factor, 2.0);
  const ModelConfig qlora = load("d1_qlora");
  EXPECT_EQ(qlora.language.q_lora_rank, 24);
  EXPECT_TRUE(qlora.language.attention_bias);
  EXPECT_FALSE(qlora.language.is_moe(1));
  EXPECT_TRUE(qlora.language.is_moe(2));
  const ModelConfig yarn = load("d2_yarn");
  EXPECT_EQ(yarn.language.rope_scaling, (RopeScaling{RopeScalingType::kYarn, 4.0, 256, 32.0, 1.0, 1.0, 0.707}));
  const ModelConfig group = load("e_group");
  EXPECT_EQ(group.language.n_group, 4);
  EXPECT_EQ(group.language.topk_group, 2);
  EXPECT_EQ(group.language.rms_norm_eps, 1e-3);
  const ModelConfig gqa = load("g_gqa_tail");
  EXPECT_FALSE(gqa.global_view_first);
  EXPECT_EQ(gqa.language.n_routed_experts, std::nullopt);
  EXPECT_FALSE(gqa.language.is_moe(1));
  EXPECT_EQ(gqa.language.num_key_value_heads, 2);
  EXPECT_EQ(gqa.language.rope_scaling->type, RopeScalingType::kLinear);
  EXPECT_EQ(gqa.projector.num_linears(), 3);
  EXPECT_EQ(load_model_config(shared / "models/nano/config.json").language.vocab_size, 454);
}

TEST(ModelConfig, OtherArchitecturesAreUnsupportedAndNamed) {
  const json small = released_small();
  const auto unsupported = [&](const char* pointer, const json& value) {
    const auto [code, text] = rejected(small, pointer, value);
    EXPECT_EQ(code, ErrorCode::kUnsupported) << text;
    EXPECT_NE(text.find("expected"), std::string::npos) << text;
    const std::string key = std::string(pointer).substr(std::string(pointer).rfind('/') + 1);
    EXPECT_NE(text.find(key), std::string::npos) << text;
  };
  unsupported("/model_type", "deepseek_v2");
  unsupported("/architectures", json::array({"DeepseekOCRForCausalLM"}));
  unsupported("/architectures", "DeepseekVLV2ForCausalLM");
  unsupported("/tile_tag", "1D");
  unsupported("/vision_config/model_name", "deepencoder");
  unsupported("/vision_config/model_type", "clip");
  unsupported("/vision_config/ignore_head", false);
  unsupported("/vision_config/class_token", true);
  unsupported("/vision_config/global_pool", "avg");
  unsupported("/projector_config/projector_type", "linear");
  unsupported("/projector_config/token_pooling", true);
  unsupported("/language_config/model_type", "llama");
  unsupported("/language_config/hidden_act", "gelu");
  unsupported("/language_config/topk_method", "gready");
  unsupported("/language_config/scoring_func", "relu");
  unsupported("/language_config/rope_scaling", {{"type", "longrope"}, {"factor", 2.0}});
}

TEST(ModelConfig, WhatNamesItselfByOmissionIsUnsupportedToo) {
  for (const char* pointer :
       {"/model_type", "/tile_tag", "/vision_config/model_name", "/language_config/topk_method"}) {
    json config = released_small();
    const json::json_pointer path(pointer);
    config[path.parent_pointer()].erase(path.back());
    try {
      parse_model_config(config.dump(), "config.json");
      ADD_FAILURE() << pointer;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << error.what();
      EXPECT_NE(std::string(error.what()).find("missing"), std::string::npos) << error.what();
    }
  }
}

TEST(ModelConfig, ADenseModelMayLeaveItsRoutingUnusable) {
  json config = released_small();
  config["language_config"]["n_routed_experts"] = nullptr;
  config["language_config"].erase("topk_method");
  EXPECT_FALSE(parse_model_config(config.dump(), "c").language.is_moe(5));
}

TEST(ModelConfig, YarnNeedsLatentAttention) {
  const json yarn = {{"type", "yarn"}, {"factor", 4.0}};
  EXPECT_EQ(accepted(twin("test-small"), "/language_config/rope_scaling", yarn).language.rope_scaling->beta_fast, 32.0);
  EXPECT_EQ(rejected(twin("test-tiny"), "/language_config/rope_scaling", yarn).first, ErrorCode::kUnsupported);
  rejected(twin("test-small"), "/language_config/rope_scaling", {{"type", "linear"}});
  rejected(twin("test-small"), "/language_config/rope_scaling", 4.0);
}

TEST(ModelConfig, ImpossibleSizesAreCorrupt) {
  const auto corrupt = [](const char* preset, const char* pointer, const json& value) {
    const auto [code, text] = rejected(twin(preset), pointer, value);
    EXPECT_EQ(code, ErrorCode::kCorrupt) << text;
    EXPECT_EQ(text.find("config.json"), 0u) << text;
    EXPECT_NE(text.find("expected"), std::string::npos) << pointer << ": " << text;
  };
  for (const char* key : {"/vision_config/width",
                          "/vision_config/layers",
                          "/vision_config/heads",
                          "/vision_config/image_size",
                          "/vision_config/patch_size",
                          "/projector_config/input_dim",
                          "/projector_config/n_embed",
                          "/projector_config/depth",
                          "/projector_config/mlp_ratio",
                          "/projector_config/downsample_ratio",
                          "/language_config/vocab_size",
                          "/language_config/hidden_size",
                          "/language_config/intermediate_size",
                          "/language_config/moe_intermediate_size",
                          "/language_config/num_hidden_layers",
                          "/language_config/num_attention_heads",
                          "/language_config/n_routed_experts",
                          "/language_config/num_experts_per_tok",
                          "/language_config/moe_layer_freq",
                          "/language_config/q_lora_rank",
                          "/language_config/max_position_embeddings"})
    for (const json& value :
         {json(0), json(-1), json(int64_t{1} << 40), json(UINT64_MAX), json(1.5), json("8"), json(true)})
      corrupt("test-base", key, value);
  for (const char* key : {"/language_config/kv_lora_rank", "/language_config/qk_rope_head_dim",
                          "/language_config/qk_nope_head_dim", "/language_config/v_head_dim"})
    corrupt("test-base", key, 0);
  for (const char* key : {"/vision_config/mlp_ratio", "/language_config/rope_theta", "/language_config/rms_norm_eps"})
    for (const json& value : {json(0), json(-1.0), json(1e300), json("x"), json()}) corrupt("test-base", key, value);
  corrupt("test-base", "/language_config/n_routed_experts", 1 << 20);
}

TEST(ModelConfig, SizesMustFitTogether) {
  const auto misfit = [](const char* preset, const char* pointer, const json& value) {
    const auto [code, text] = rejected(twin(preset), pointer, value);
    EXPECT_EQ(code, ErrorCode::kCorrupt) << text;
  };
  misfit("test-tiny", "/vision_config/heads", 5);
  misfit("test-tiny", "/language_config/num_attention_heads", 5);
  misfit("test-tiny", "/language_config/num_attention_heads", 16);  // head size 3
  misfit("test-tiny", "/language_config/num_key_value_heads", 3);
  misfit("test-tiny", "/language_config/num_key_value_heads", 8);
  misfit("test-tiny", "/language_config/num_experts_per_tok", 9);
  misfit("test-small", "/language_config/qk_rope_head_dim", 7);
  misfit("test-small", "/projector_config/input_dim", 64);
  misfit("test-small", "/projector_config/n_embed", 64);
  misfit("test-small", "/projector_config/downsample_ratio", 6);
  misfit("test-base", "/language_config/n_group", 3);
  misfit("test-base", "/language_config/n_group", 8);  // groups of one have no two best
  misfit("test-base", "/language_config/topk_group", 2);
  misfit("test-base", "/language_config/n_group", nullptr);
  json grouped = twin("test-base");
  grouped["language_config"]["n_group"] = 4;
  EXPECT_EQ(rejected(grouped, "/language_config/num_experts_per_tok", 3).first, ErrorCode::kCorrupt);
  EXPECT_EQ(accepted(grouped, "/language_config/num_experts_per_tok", 2).language.n_group, 4);
}

TEST(ModelConfig, CandidateResolutionsAreMultiplesOfTheTile) {
  const json small = released_small();
  for (const char* bad : {"[]", "{}", "[[384]]", "[[384, 384, 384]]", "[[384, 0]]", "[[384, -384]]", "[[384, 384.0]]",
                          "[[384, 384], [384, 500]]", "[[384, 384], [500, 384]]", "[384, 384]", "[[768, 768]]",
                          "[[384, 99999744]]", "[[384, 18446744073709551615]]"}) {
    const auto [code, text] = rejected(small, "/candidate_resolutions", json::parse(bad));
    EXPECT_EQ(code, ErrorCode::kCorrupt) << bad;
  }
  const json many(std::vector<std::vector<int>>(1025, {384, 384}));
  EXPECT_EQ(rejected(small, "/candidate_resolutions", many).first, ErrorCode::kCorrupt);
  EXPECT_EQ(accepted(small, "/candidate_resolutions", json::parse("[[384, 384], [6912, 384]]")).tile_size(), 384);
}

TEST(ModelConfig, TextThatIsNoConfigIsCorrupt) {
  for (const std::string& bad : {std::string(""), std::string("[]"), std::string("{"),
                                 std::string("{\"model_type\": \"a\", \"model_type\": \"b\"}"), std::string(1000, '['),
                                 std::string(2 << 20, ' ')})
    EXPECT_THROW(parse_model_config(bad, "config.json"), Error);
  json config = released_small();
  config["language_config"] = 3;
  EXPECT_THROW(parse_model_config(config.dump(), "config.json"), Error);
}

TEST(ModelConfig, TheQuantisedFormatIsReadAndWrittenBack) {
  const json written = {{"quant_method", "vl2"}, {"version", 1}, {"format", "mixed"}, {"group_size", 128}};
  const ModelConfig parsed = accepted(released_small(), "/quantization_config", written);
  EXPECT_EQ(parsed.quantization, ModelFormat::kMixed);
  EXPECT_EQ(json::parse(model_config_json(parsed))["quantization_config"], written);
  EXPECT_EQ(parse_model_config(model_config_json(parsed), "c"), parsed);
  EXPECT_EQ(accepted(released_small(), "/quantization_config", nullptr).quantization, std::nullopt);
  EXPECT_FALSE(twin("test-base").contains("quantization_config"));
}

TEST(ModelConfig, EveryOtherKeyStaysWhenAFormatIsAdded) {
  json expected = released_small();
  const std::string text = with_quantization_config(expected.dump(), ModelFormat::kQ4, "c");
  EXPECT_EQ(parse_model_config(text, "c").quantization, ModelFormat::kQ4);
  expected["quantization_config"] = {{"quant_method", "vl2"}, {"version", 1}, {"format", "q4"}, {"group_size", 128}};
  EXPECT_EQ(json::parse(text), expected);
}

TEST(ModelConfig, QuantisationsOfOthersAndOfLaterVersionsAreRefused) {
  const json good = {{"quant_method", "vl2"}, {"version", 1}, {"format", "q4"}, {"group_size", 128}};
  accepted(released_small(), "/quantization_config", good);
  const auto expect = [&](const char* key, const json& value, ErrorCode code, const char* text) {
    json config = released_small();
    config["quantization_config"] = good;
    const auto [got, error] = rejected(config, (std::string("/quantization_config/") + key).c_str(), value);
    EXPECT_EQ(got, code) << error;
    EXPECT_NE(error.find(text), std::string::npos) << error;
  };
  expect("quant_method", "awq", ErrorCode::kUnsupported, "quantization_config.quant_method is \"awq\"");
  expect("version", 2, ErrorCode::kUnsupported, "version is 2");
  expect("version", "1", ErrorCode::kCorrupt, "version");
  expect("format", "q3", ErrorCode::kUnsupported, "format is \"q3\"");
  expect("group_size", 64, ErrorCode::kUnsupported, "group_size is 64");
  expect("desc_act", true, ErrorCode::kUnsupported, "desc_act");
  for (const auto& [key, value] : good.items()) {
    json part = good;
    part.erase(key);
    EXPECT_EQ(rejected(released_small(), "/quantization_config", part).first, ErrorCode::kUnsupported) << key;
  }
  EXPECT_EQ(rejected(released_small(), "/quantization_config", "vl2").first, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace vl2

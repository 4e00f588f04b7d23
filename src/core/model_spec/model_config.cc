#include "core/model_spec/model_config.h"

#include <array>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model_spec/format_plan.h"

namespace vl2 {
namespace {

using nlohmann::json;

constexpr JsonLimits kConfigLimits = {.max_bytes = size_t{1} << 20, .max_depth = 16};
constexpr const char* kQuantMethod = "vl2";
constexpr int64_t kQuantVersion = 1;
constexpr int64_t kAny = std::numeric_limits<int32_t>::max();

// The names of config.json. One row per value that we run.
template <typename Enum, size_t N>
using Names = std::array<std::pair<Enum, const char*>, N>;
constexpr Names<TopkMethod, 3> kTopkMethods = {{{TopkMethod::kGreedy, "greedy"},
                                                {TopkMethod::kGroupLimitedGreedy, "group_limited_greedy"},
                                                {TopkMethod::kNoauxTc, "noaux_tc"}}};
constexpr Names<ScoringFunc, 2> kScoringFuncs = {
    {{ScoringFunc::kSoftmax, "softmax"}, {ScoringFunc::kSigmoid, "sigmoid"}}};
constexpr Names<RopeScalingType, 3> kRopeScalingTypes = {
    {{RopeScalingType::kLinear, "linear"}, {RopeScalingType::kDynamic, "dynamic"}, {RopeScalingType::kYarn, "yarn"}}};

template <typename Enum, size_t N>
const char* name_of(const Names<Enum, N>& names, Enum value) {
  for (const auto& [known, name] : names)
    if (known == value) return name;
  VL2_CHECK(false, "a config value without a name");
  return "";
}

template <typename Enum, size_t N>
Enum parse_name(const JsonObject& object, const Names<Enum, N>& names, const std::string& key,
                const std::string& fallback) {
  const std::string text = object.string(key, fallback);
  std::string accepted;
  for (const auto& [value, name] : names) {
    if (text == name) return value;
    accepted += (accepted.empty() ? "" : ", ") + std::string(name);
  }
  object.reject(key, "one of " + accepted, ErrorCode::kUnsupported);
}

void require_string(const JsonObject& object, const std::string& key, const std::string& fallback,
                    const std::string& only) {
  if (object.string(key, fallback) != only) object.reject(key, "\"" + only + "\"", ErrorCode::kUnsupported);
}

void require_bool(const JsonObject& object, const std::string& key, bool only) {
  if (object.boolean(key, only) != only) object.reject(key, only ? "true" : "false", ErrorCode::kUnsupported);
}

void require_architecture(const JsonObject& object, const std::string& only) {
  const json* list = object.find("architectures");
  if (list == nullptr || list->is_null()) return;
  const bool known = list->is_array() && list->size() == 1 && list->front() == only;
  if (!known) object.reject("architectures", "[\"" + only + "\"]", ErrorCode::kUnsupported);
}

// Falls back on the official VisionEncoderConfig, which is not the released tower: a file that relies on it names
// another one.
VisionConfig parse_vision(const JsonObject& object) {
  require_string(object, "model_type", "vision", "vision");
  require_string(object, "model_name", "siglip_large_patch16_384", kSiglipModelName);
  require_string(object, "global_pool", "map", "map");
  require_bool(object, "ignore_head", true);
  require_bool(object, "class_token", false);
  VisionConfig vision;
  vision.image_size = object.integer("image_size", 384, 1, kAny);
  vision.patch_size = object.integer("patch_size", 16, 1, kAny);
  vision.width = object.integer("width", 1024, 1, kAny);
  vision.layers = object.integer("layers", 24, 1, kAny);
  vision.heads = object.integer("heads", 16, 1, kAny);
  vision.mlp_ratio = object.number("mlp_ratio", 4.0, 0.0, 64.0);
  return vision;
}

ProjectorConfig parse_projector(const JsonObject& object) {
  require_string(object, "model_type", "mlp_projector", "mlp_projector");
  require_string(object, "projector_type", "downsample_mlp_gelu", "downsample_mlp_gelu");
  require_bool(object, "token_pooling", false);
  ProjectorConfig projector;
  projector.input_dim = object.integer("input_dim", 1152, 1, kAny);
  projector.n_embed = object.integer("n_embed", 2048, 1, kAny);
  projector.depth = object.integer("depth", 2, 1, kAny);
  projector.mlp_ratio = object.integer("mlp_ratio", 1, 1, kAny);
  projector.downsample_ratio = object.integer("downsample_ratio", 2, 1, kAny);
  return projector;
}

std::optional<RopeScaling> parse_rope_scaling(const JsonObject& language) {
  const json* value = language.find("rope_scaling");
  if (value == nullptr || value->is_null()) return std::nullopt;
  const JsonObject object(*value, language.where(), "language_config.rope_scaling");
  RopeScaling scaling;
  scaling.type = parse_name(object, kRopeScalingTypes, object.has("type") ? "type" : "rope_type", "");
  if (!object.has("factor")) object.reject("factor", "a number");
  scaling.factor = object.number("factor", 1.0, 1e-3, 1e6);
  scaling.original_max_position_embeddings = object.integer("original_max_position_embeddings", 4096, 1, kAny);
  scaling.beta_fast = object.number("beta_fast", 32.0, 1e-6, 1e6);
  scaling.beta_slow = object.number("beta_slow", 1.0, 1e-6, 1e6);
  scaling.mscale = object.number("mscale", 1.0, 0.0, 1e3);
  scaling.mscale_all_dim = object.number("mscale_all_dim", 0.0, 0.0, 1e3);
  return scaling;
}

void parse_experts(const JsonObject& object, LanguageConfig& language) {
  language.n_routed_experts = object.optional_integer("n_routed_experts", std::nullopt, 1, kAny);
  language.n_shared_experts = object.optional_integer("n_shared_experts", std::nullopt, 0, kAny).value_or(0);
  language.num_experts_per_tok = object.optional_integer("num_experts_per_tok", std::nullopt, 0, kAny).value_or(0);
  language.moe_intermediate_size = object.integer("moe_intermediate_size", language.moe_intermediate_size, 1, kAny);
  language.first_k_dense_replace = object.integer("first_k_dense_replace", 0, 0, kAny);
  language.moe_layer_freq = object.integer("moe_layer_freq", 1, 1, kAny);
  language.norm_topk_prob = object.boolean("norm_topk_prob", false);
  language.routed_scaling_factor = object.number("routed_scaling_factor", 1.0, -1e6, 1e6);
  language.scoring_func = parse_name(object, kScoringFuncs, "scoring_func", "softmax");
  if (!language.n_routed_experts) return;  // a dense model's routing keys mean nothing, the unusable default included
  language.topk_method = parse_name(object, kTopkMethods, "topk_method", "gready");
  if (language.topk_method == TopkMethod::kGreedy) return;
  for (const char* key : {"n_group", "topk_group"})
    if (!object.optional_integer(key, std::nullopt, 1, kAny))
      object.reject(key, "a number of groups, which this topk_method needs");
  language.n_group = object.integer("n_group", 1, 1, kAny);
  language.topk_group = object.integer("topk_group", 1, 1, kAny);
}

LanguageConfig parse_language(const JsonObject& object) {
  require_string(object, "model_type", "deepseek_v2", "deepseek_v2");
  require_architecture(object, "DeepseekV2ForCausalLM");
  require_string(object, "hidden_act", "silu", "silu");
  LanguageConfig language;
  const auto size = [&](const char* key, int64_t& field) { field = object.integer(key, field, 1, kAny); };
  size("vocab_size", language.vocab_size);
  size("hidden_size", language.hidden_size);
  size("intermediate_size", language.intermediate_size);
  size("num_hidden_layers", language.num_hidden_layers);
  size("num_attention_heads", language.num_attention_heads);
  size("max_position_embeddings", language.max_position_embeddings);
  language.num_key_value_heads =
      object.optional_integer("num_key_value_heads", 32, 1, kAny).value_or(language.num_attention_heads);
  language.use_mla = object.boolean("use_mla", true);
  language.q_lora_rank = object.optional_integer("q_lora_rank", 1536, 1, kAny);
  language.kv_lora_rank = object.optional_integer("kv_lora_rank", 512, 0, kAny).value_or(0);
  // Tiny, which has no MLA, says 0 for these three.
  language.qk_nope_head_dim = object.optional_integer("qk_nope_head_dim", 128, 0, kAny).value_or(0);
  language.qk_rope_head_dim = object.optional_integer("qk_rope_head_dim", 64, 0, kAny).value_or(0);
  language.v_head_dim = object.optional_integer("v_head_dim", 128, 0, kAny).value_or(0);
  parse_experts(object, language);
  language.rope_theta = object.number("rope_theta", 10000.0, 1.0, 1e12);
  language.rope_scaling = parse_rope_scaling(object);
  language.rms_norm_eps = object.number("rms_norm_eps", 1e-6, 0.0, 1.0);
  language.attention_bias = object.boolean("attention_bias", false);
  language.tie_word_embeddings = object.boolean("tie_word_embeddings", false);
  language.bos_token_id = object.integer("bos_token_id", 100000, 0, kAny);
  language.eos_token_id = object.integer("eos_token_id", 100001, 0, kAny);
  return language;
}

std::vector<std::pair<int64_t, int64_t>> parse_candidates(const JsonObject& top) {
  const json* list = top.find("candidate_resolutions");
  if (list == nullptr) return {{384, 384}};
  constexpr const char* kExpected = "a list of 1 to 1024 [width, height] pairs";
  if (!list->is_array() || list->empty() || list->size() > 1024) top.reject("candidate_resolutions", kExpected);
  std::vector<std::pair<int64_t, int64_t>> candidates;
  for (const json& pair : *list) {
    const auto side = [&](size_t i) {
      if (!pair.is_array() || pair.size() != 2 || !pair[i].is_number_unsigned() ||
          pair[i].get<uint64_t>() > uint64_t{kAny})
        top.reject("candidate_resolutions", kExpected);
      return pair[i].get<int64_t>();
    };
    const int64_t width = side(0);
    candidates.emplace_back(width, side(1));
  }
  return candidates;
}

// Everything is required and nothing else is accepted: weights read by a rule that is nearly theirs are noise.
std::optional<ModelFormat> parse_quantization(const JsonObject& top) {
  const json* value = top.find("quantization_config");
  if (value == nullptr || value->is_null()) return std::nullopt;
  const JsonObject object(*value, top.where(), "quantization_config");
  if (object.string("quant_method", "") != kQuantMethod)
    object.reject("quant_method", "\"vl2\"; quantise the original model with `vl2 quantize`", ErrorCode::kUnsupported);
  if (object.integer("version", 0, 0, kAny) != kQuantVersion)
    object.reject("version", fmt::format("{}; quantise the original model again", kQuantVersion),
                  ErrorCode::kUnsupported);
  if (object.integer("group_size", 0, 0, kAny) != kQuantGroup)
    object.reject("group_size", std::to_string(kQuantGroup), ErrorCode::kUnsupported);
  const std::optional<ModelFormat> format = parse_model_format(object.string("format", ""));
  if (!format) object.reject("format", "one of bf16, q8, q4, mixed", ErrorCode::kUnsupported);
  for (const auto& [key, item] : value->items())
    if (key != "quant_method" && key != "version" && key != "group_size" && key != "format")
      object.reject(key, "no such key in version 1", ErrorCode::kUnsupported);
  return format;
}

}  // namespace

ModelConfig parse_model_config(std::string_view text, const std::string& where) {
  const json root = parse_json(text, where, kConfigLimits);
  const JsonObject top(root, where);
  require_string(top, "model_type", "", "deepseek_vl_v2");
  require_architecture(top, "DeepseekVLV2ForCausalLM");
  require_string(top, "tile_tag", "tile_tag", "2D");
  const json none = json::object();
  const auto section = [&](const char* key) {
    const json* value = top.find(key);
    return JsonObject(value == nullptr ? none : *value, where, key);
  };
  ModelConfig config;
  config.vision = parse_vision(section("vision_config"));
  config.projector = parse_projector(section("projector_config"));
  config.language = parse_language(section("language_config"));
  config.global_view_first = top.string("global_view_pos", "head") == "head";
  config.candidate_resolutions = parse_candidates(top);
  config.torch_dtype = top.string("torch_dtype", top.string("dtype", "bfloat16"));
  config.quantization = parse_quantization(top);
  validate_model_config(config, where);
  return config;
}

ModelConfig load_model_config(const std::filesystem::path& file) {
  return parse_model_config(read_file(file, kConfigLimits.max_bytes), file.string());
}

namespace {

nlohmann::ordered_json quantization_config(ModelFormat format) {
  return {{"quant_method", kQuantMethod},
          {"version", kQuantVersion},
          {"format", model_format_name(format)},
          {"group_size", kQuantGroup}};
}

}  // namespace

std::string model_config_json(const ModelConfig& config) {
  using nlohmann::ordered_json;
  const auto optional = [](const std::optional<int64_t>& value) {
    return value ? ordered_json(*value) : ordered_json(nullptr);
  };
  const auto null_for_0 = [](int64_t value) { return value == 0 ? ordered_json(nullptr) : ordered_json(value); };
  const VisionConfig& v = config.vision;
  const ProjectorConfig& p = config.projector;
  const LanguageConfig& l = config.language;
  ordered_json rope_scaling = nullptr;
  if (l.rope_scaling)
    rope_scaling = {{"type", name_of(kRopeScalingTypes, l.rope_scaling->type)},
                    {"factor", l.rope_scaling->factor},
                    {"original_max_position_embeddings", l.rope_scaling->original_max_position_embeddings},
                    {"beta_fast", l.rope_scaling->beta_fast},
                    {"beta_slow", l.rope_scaling->beta_slow},
                    {"mscale", l.rope_scaling->mscale},
                    {"mscale_all_dim", l.rope_scaling->mscale_all_dim}};
  ordered_json candidates = ordered_json::array();
  for (const auto& [width, height] : config.candidate_resolutions)
    candidates.push_back(ordered_json::array({width, height}));
  ordered_json root = {{"architectures", ordered_json::array({"DeepseekVLV2ForCausalLM"})},
                       {"model_type", "deepseek_vl_v2"},
                       {"torch_dtype", config.torch_dtype},
                       {"tile_tag", "2D"},
                       {"global_view_pos", config.global_view_first ? "head" : "tail"},
                       {"candidate_resolutions", candidates},
                       {"vision_config",
                        {{"model_type", "vision"},
                         {"model_name", v.model_name},
                         {"image_size", v.image_size},
                         {"patch_size", v.patch_size},
                         {"width", v.width},
                         {"layers", v.layers},
                         {"heads", v.heads},
                         {"mlp_ratio", v.mlp_ratio}}},
                       {"projector_config",
                        {{"model_type", "mlp_projector"},
                         {"projector_type", "downsample_mlp_gelu"},
                         {"input_dim", p.input_dim},
                         {"n_embed", p.n_embed},
                         {"depth", p.depth},
                         {"mlp_ratio", p.mlp_ratio},
                         {"downsample_ratio", p.downsample_ratio}}},
                       {"language_config",
                        {{"architectures", ordered_json::array({"DeepseekV2ForCausalLM"})},
                         {"model_type", "deepseek_v2"},
                         {"torch_dtype", config.torch_dtype},
                         {"vocab_size", l.vocab_size},
                         {"hidden_size", l.hidden_size},
                         {"intermediate_size", l.intermediate_size},
                         {"moe_intermediate_size", l.moe_intermediate_size},
                         {"num_hidden_layers", l.num_hidden_layers},
                         {"num_attention_heads", l.num_attention_heads},
                         {"num_key_value_heads", l.num_key_value_heads},
                         {"use_mla", l.use_mla},
                         {"q_lora_rank", optional(l.q_lora_rank)},
                         {"kv_lora_rank", null_for_0(l.kv_lora_rank)},
                         {"qk_nope_head_dim", l.qk_nope_head_dim},
                         {"qk_rope_head_dim", l.qk_rope_head_dim},
                         {"v_head_dim", l.v_head_dim},
                         {"n_routed_experts", optional(l.n_routed_experts)},
                         {"n_shared_experts", null_for_0(l.n_shared_experts)},
                         {"num_experts_per_tok", l.num_experts_per_tok},
                         {"first_k_dense_replace", l.first_k_dense_replace},
                         {"moe_layer_freq", l.moe_layer_freq},
                         {"topk_method", name_of(kTopkMethods, l.topk_method)},
                         {"scoring_func", name_of(kScoringFuncs, l.scoring_func)},
                         {"norm_topk_prob", l.norm_topk_prob},
                         {"routed_scaling_factor", l.routed_scaling_factor},
                         {"n_group", l.n_group},
                         {"topk_group", l.topk_group},
                         {"max_position_embeddings", l.max_position_embeddings},
                         {"rope_theta", l.rope_theta},
                         {"rope_scaling", rope_scaling},
                         {"rms_norm_eps", l.rms_norm_eps},
                         {"attention_bias", l.attention_bias},
                         {"tie_word_embeddings", l.tie_word_embeddings},
                         {"bos_token_id", l.bos_token_id},
                         {"eos_token_id", l.eos_token_id}}}};
  if (config.quantization) root["quantization_config"] = quantization_config(*config.quantization);
  return root.dump(2) + "\n";
}

std::string with_quantization_config(std::string_view text, ModelFormat format, const std::string& where) {
  parse_json(text, where, kConfigLimits);
  nlohmann::ordered_json root = nlohmann::ordered_json::parse(text);  // keeps the order of the keys
  root["quantization_config"] = quantization_config(format);
  return root.dump(2) + "\n";
}

}  // namespace vl2

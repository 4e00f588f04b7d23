// What makes a ModelConfig's sizes possible. The upper limits are far above any model of this family and low enough
// that no product of them the library computes can overflow int64_t.
#include "core/base/error.h"
#include "core/model_spec/model_config.h"

namespace vl2 {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxHeads = 1 << 12;
constexpr int64_t kMaxHeadDim = 1 << 14;
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxExpertsOfAllLayers = 1 << 16;
constexpr int64_t kMaxPositions = 1 << 26;
constexpr int64_t kMaxTileSize = 1 << 13;
constexpr int64_t kMaxTilesOfImage = 256;

class Checker {
 public:
  explicit Checker(const std::string& where) : where_(where) {}

  void range(const char* name, int64_t value, int64_t low, int64_t high) const {
    if (value < low || value > high)
      fail(ErrorCode::kCorrupt, "{}: {} is {}, expected {} to {}", where_, name, value, low, high);
  }
  void divides(const char* part_name, int64_t part, const char* whole_name, int64_t whole) const {
    if (whole % part != 0)
      fail(ErrorCode::kCorrupt, "{}: {} {} is no multiple of {} {}", where_, whole_name, whole, part_name, part);
  }
  void equal(const char* a_name, int64_t a, const char* b_name, int64_t b) const {
    if (a != b) fail(ErrorCode::kCorrupt, "{}: {} is {}, expected {}, the value of {}", where_, a_name, a, b, b_name);
  }
  void even(const char* name, int64_t value) const {
    if (value % 2 != 0) fail(ErrorCode::kCorrupt, "{}: {} is {}, expected an even number", where_, name, value);
  }
  void number(const char* name, double value, bool good, const char* expected) const {
    if (!good) fail(ErrorCode::kCorrupt, "{}: {} is {}, expected {}", where_, name, value, expected);
  }

 private:
  const std::string& where_;
};

void check_vision(const VisionConfig& vision, const std::string& where) {
  const Checker check(where);
  if (vision.model_name != kSiglipModelName)
    fail(ErrorCode::kUnsupported, "{}: vision_config.model_name is \"{}\", expected \"{}\"", where, vision.model_name,
         kSiglipModelName);
  check.range("vision_config.image_size", vision.image_size, 1, kMaxTileSize);
  check.range("vision_config.patch_size", vision.patch_size, 1, vision.image_size);
  check.range("vision_config.image_size / patch_size", vision.grid(), 1, 1024);
  check.range("vision_config.width", vision.width, 1, kMaxWidth);
  check.range("vision_config.layers", vision.layers, 1, kMaxLayers);
  check.range("vision_config.heads", vision.heads, 1, kMaxHeads);
  check.divides("vision_config.heads", vision.heads, "vision_config.width", vision.width);
  check.number("vision_config.mlp_ratio", vision.mlp_ratio, vision.mlp_ratio > 0 && vision.mlp_ratio <= 64,
               "more than 0 and at most 64");
  check.range("vision_config.width * mlp_ratio", vision.mlp_hidden(), 1, kMaxWidth);
}

void check_projector(const ModelConfig& config, const std::string& where) {
  const Checker check(where);
  const ProjectorConfig& projector = config.projector;
  check.equal("projector_config.input_dim", projector.input_dim, "vision_config.width", config.vision.width);
  check.equal("projector_config.n_embed", projector.n_embed, "language_config.hidden_size",
              config.language.hidden_size);
  check.range("projector_config.depth", projector.depth, 1, 64);
  check.range("projector_config.mlp_ratio", projector.mlp_ratio, 1, 64);
  check.range("projector_config.downsample_ratio", projector.downsample_ratio, 1, 16);
  check.range("projector_config.downsample_ratio", projector.downsample_ratio, 1, config.vision.grid());
}

void check_tiles(const ModelConfig& config, const std::string& where) {
  const Checker check(where);
  if (config.candidate_resolutions.empty())
    fail(ErrorCode::kCorrupt, "{}: candidate_resolutions is empty, expected at least one [width, height]", where);
  // The tiles are what the vision tower sees; it has no other size.
  check.equal("the first candidate resolution's width", config.tile_size(), "vision_config.image_size",
              config.vision.image_size);
  for (const auto& [width, height] : config.candidate_resolutions) {
    check.range("a candidate resolution's width", width, 1, kMaxTileSize * kMaxTilesOfImage);
    check.range("a candidate resolution's height", height, 1, kMaxTileSize * kMaxTilesOfImage);
    check.divides("the tile size", config.tile_size(), "a candidate resolution's width", width);
    check.divides("the tile size", config.tile_size(), "a candidate resolution's height", height);
    check.range("tiles of a candidate resolution", (width / config.tile_size()) * (height / config.tile_size()), 1,
                kMaxTilesOfImage);
  }
}

void check_attention(const LanguageConfig& language, const std::string& where) {
  const Checker check(where);
  check.range("language_config.num_attention_heads", language.num_attention_heads, 1, kMaxHeads);
  if (language.use_mla) {
    check.range("language_config.kv_lora_rank", language.kv_lora_rank, 1, kMaxWidth);
    if (language.q_lora_rank) check.range("language_config.q_lora_rank", *language.q_lora_rank, 1, kMaxWidth);
    check.range("language_config.qk_nope_head_dim", language.qk_nope_head_dim, 1, kMaxHeadDim);
    check.range("language_config.qk_rope_head_dim", language.qk_rope_head_dim, 2, kMaxHeadDim);
    check.even("language_config.qk_rope_head_dim", language.qk_rope_head_dim);
    check.range("language_config.v_head_dim", language.v_head_dim, 1, kMaxHeadDim);
  } else {
    check.divides("language_config.num_attention_heads", language.num_attention_heads, "language_config.hidden_size",
                  language.hidden_size);
    check.range("language_config.num_key_value_heads", language.num_key_value_heads, 1, language.num_attention_heads);
    check.divides("language_config.num_key_value_heads", language.num_key_value_heads,
                  "language_config.num_attention_heads", language.num_attention_heads);
    check.even("language_config.hidden_size / num_attention_heads", language.qk_head_dim());
    check.range("language_config.hidden_size / num_attention_heads", language.qk_head_dim(), 2, kMaxHeadDim);
  }
  check.range("language_config.max_position_embeddings", language.max_position_embeddings, 1, kMaxPositions);
  check.number("language_config.rope_theta", language.rope_theta,
               language.rope_theta > 1.0 && language.rope_theta <= 1e12, "more than 1 and at most 1e12");
  if (!language.rope_scaling) return;
  const RopeScaling& scaling = *language.rope_scaling;
  if (scaling.type == RopeScalingType::kYarn && !language.use_mla)
    fail(ErrorCode::kUnsupported,
         "{}: language_config.rope_scaling is yarn with use_mla false, expected linear or dynamic", where);
  check.number("language_config.rope_scaling.factor", scaling.factor, scaling.factor >= 1e-3 && scaling.factor <= 1e6,
               "0.001 to 1e6");
  check.range("language_config.rope_scaling.original_max_position_embeddings", scaling.original_max_position_embeddings,
              1, kMaxPositions);
}

void check_experts(const LanguageConfig& language, const std::string& where) {
  if (!language.n_routed_experts) return;
  const Checker check(where);
  const int64_t experts = *language.n_routed_experts;
  check.range("language_config.n_routed_experts", experts, 1, kMaxExpertsOfAllLayers / language.num_hidden_layers);
  check.range("language_config.n_shared_experts", language.n_shared_experts, 0, 64);
  check.range("language_config.num_experts_per_tok", language.num_experts_per_tok, 1, experts);
  check.range("language_config.moe_intermediate_size", language.moe_intermediate_size, 1, kMaxWidth);
  check.range("language_config.first_k_dense_replace", language.first_k_dense_replace, 0, kMaxVocab);
  check.range("language_config.moe_layer_freq", language.moe_layer_freq, 1, kMaxVocab);
  if (language.topk_method == TopkMethod::kGreedy) return;
  check.range("language_config.n_group", language.n_group, 1, experts);
  check.divides("language_config.n_group", language.n_group, "language_config.n_routed_experts", experts);
  check.range("language_config.topk_group", language.topk_group, 1, language.n_group);
  const int64_t group_size = experts / language.n_group;
  // A group's score is the sum of its best two.
  if (language.topk_method == TopkMethod::kNoauxTc)
    check.range("language_config.n_routed_experts / n_group", group_size, 2, experts);
  check.range("language_config.num_experts_per_tok", language.num_experts_per_tok, 1, language.topk_group * group_size);
}

void check_language(const LanguageConfig& language, const std::string& where) {
  const Checker check(where);
  check.range("language_config.vocab_size", language.vocab_size, 1, kMaxVocab);
  check.range("language_config.hidden_size", language.hidden_size, 1, kMaxWidth);
  check.range("language_config.intermediate_size", language.intermediate_size, 1, kMaxWidth);
  check.range("language_config.num_hidden_layers", language.num_hidden_layers, 1, kMaxLayers);
  check.number("language_config.rms_norm_eps", language.rms_norm_eps,
               language.rms_norm_eps > 0 && language.rms_norm_eps < 1, "more than 0 and less than 1");
  check_attention(language, where);
  check_experts(language, where);
}

}  // namespace

void validate_model_config(const ModelConfig& config, const std::string& where) {
  check_vision(config.vision, where);
  check_language(config.language, where);
  check_projector(config, where);
  check_tiles(config, where);
}

}  // namespace vl2

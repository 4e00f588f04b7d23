// What a checkpoint's config.json says, under Hugging Face's names, with DeepSeek-VL2's own defaults for missing keys.
//
// Sizes are validated once, here: code that holds a ModelConfig need not check it again. Plain data, copy freely.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vl2 {

// The model_name of the one vision tower we run: SigLIP SO400M's code, whatever its sizes.
inline constexpr const char* kSiglipModelName = "siglip_so400m_patch14_384";

struct VisionConfig {
  std::string model_name = kSiglipModelName;
  int64_t image_size = 384;
  int64_t patch_size = 14;
  int64_t width = 1152;
  int64_t layers = 27;
  int64_t heads = 16;
  double mlp_ratio = 3.7362;

  int64_t grid() const { return image_size / patch_size; }  // 27: the pixels beyond grid * patch are never read
  int64_t num_patches() const { return grid() * grid(); }   // 729
  int64_t head_dim() const { return width / heads; }
  int64_t mlp_hidden() const { return static_cast<int64_t>(static_cast<double>(width) * mlp_ratio); }  // 4304

  bool operator==(const VisionConfig&) const = default;
};

struct ProjectorConfig {
  int64_t input_dim = 1152;
  int64_t n_embed = 2048;
  int64_t depth = 2;
  int64_t mlp_ratio = 1;
  int64_t downsample_ratio = 2;

  // Linear layers with a GELU between each two; the official code builds two even for depth 1.
  int64_t num_linears() const { return depth < 2 ? 2 : depth; }
  bool operator==(const ProjectorConfig&) const = default;
};

enum class TopkMethod { kGreedy, kGroupLimitedGreedy, kNoauxTc };
enum class ScoringFunc { kSoftmax, kSigmoid };
enum class RopeScalingType { kLinear, kDynamic, kYarn };

struct RopeScaling {
  RopeScalingType type = RopeScalingType::kLinear;
  double factor = 1.0;
  int64_t original_max_position_embeddings = 4096;  // yarn only, as the three below
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double mscale = 1.0;
  double mscale_all_dim = 0.0;  // MLA: scales the softmax for every type when not 0

  bool operator==(const RopeScaling&) const = default;
};

struct LanguageConfig {
  int64_t vocab_size = 102400;
  int64_t hidden_size = 4096;
  int64_t intermediate_size = 11008;
  int64_t moe_intermediate_size = 1407;
  int64_t num_hidden_layers = 30;
  int64_t num_attention_heads = 32;
  int64_t num_key_value_heads = 32;
  bool use_mla = true;
  std::optional<int64_t> q_lora_rank = 1536;  // null: a plain q_proj
  int64_t kv_lora_rank = 512;                 // 0 when the file says null or the model is no MLA
  int64_t qk_nope_head_dim = 128;
  int64_t qk_rope_head_dim = 64;
  int64_t v_head_dim = 128;
  std::optional<int64_t> n_routed_experts;  // null: dense layers only
  int64_t n_shared_experts = 0;             // 0: none
  int64_t num_experts_per_tok = 0;
  int64_t first_k_dense_replace = 0;
  int64_t moe_layer_freq = 1;
  TopkMethod topk_method = TopkMethod::kGreedy;
  ScoringFunc scoring_func = ScoringFunc::kSoftmax;
  bool norm_topk_prob = false;
  double routed_scaling_factor = 1.0;
  int64_t n_group = 1;  // both 1 with greedy, which knows no groups
  int64_t topk_group = 1;
  int64_t max_position_embeddings = 2048;
  double rope_theta = 10000.0;
  std::optional<RopeScaling> rope_scaling;
  double rms_norm_eps = 1e-6;
  bool attention_bias = false;
  bool tie_word_embeddings = false;
  int64_t bos_token_id = 100000;
  int64_t eos_token_id = 100001;

  bool is_moe(int64_t layer) const {
    return n_routed_experts.has_value() && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }
  // MHA: hidden / heads. MLA: nope + rope, the size scores are taken over.
  int64_t qk_head_dim() const {
    return use_mla ? qk_nope_head_dim + qk_rope_head_dim : hidden_size / num_attention_heads;
  }
  bool operator==(const LanguageConfig&) const = default;
};

enum class ModelFormat : uint8_t;  // core/model_spec/format_plan.h

struct ModelConfig {
  VisionConfig vision;
  ProjectorConfig projector;
  LanguageConfig language;
  bool global_view_first = true;  // global_view_pos "head": [global, separator, local]; else [local, separator, global]
  std::vector<std::pair<int64_t, int64_t>> candidate_resolutions;  // (width, height) in pixels, order matters for ties
  std::string torch_dtype = "bfloat16";
  std::optional<ModelFormat> quantization;  // quantization_config: the format `vl2 quantize` wrote; absent: none

  int64_t tile_size() const { return candidate_resolutions.front().first; }
  // Vision tokens along one side of a tile: 14 for a 27 x 27 grid merged 2 x 2.
  int64_t tokens_per_side() const {
    return (vision.grid() + projector.downsample_ratio - 1) / projector.downsample_ratio;
  }
  bool operator==(const ModelConfig&) const = default;
};

// The 23 grids of the releases: every (m, n) with m * n <= 9 times tile_size, in the published order.
std::vector<std::pair<int64_t, int64_t>> default_candidate_resolutions(int64_t tile_size = 384);

// `where` names the file in errors. kCorrupt: not JSON, wrong types, impossible sizes. kUnsupported: another
// architecture or a value we do not run (unknown vision tower, tile_tag "1D", ...); the message says which key and what
// is accepted.
ModelConfig parse_model_config(std::string_view json, const std::string& where);
ModelConfig load_model_config(const std::filesystem::path& file);

// Of a config somebody built or changed in memory: what parse_model_config checks on a file's.
void validate_model_config(const ModelConfig& config, const std::string& where);

// config.json's text; parse_model_config gives the same config back.
std::string model_config_json(const ModelConfig& config);

// The same config.json with another quantization_config and every other key as it was. kCorrupt: not JSON.
std::string with_quantization_config(std::string_view json, ModelFormat format, const std::string& where);

// The published shapes under the names people know ("tiny", "small", "base"), and twins of a few hundred kilobytes with
// the same switches for tests ("test-tiny", "test-small", "test-base"); kInvalidArgument for another name.
ModelConfig preset_config(std::string_view name);

}  // namespace vl2

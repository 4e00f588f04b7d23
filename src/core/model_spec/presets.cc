#include "core/base/error.h"
#include "core/model_spec/model_config.h"

namespace vl2 {
namespace {

LanguageConfig tiny() {
  LanguageConfig language;
  language.vocab_size = 129280;
  language.hidden_size = 1280;
  language.intermediate_size = 6848;
  language.moe_intermediate_size = 896;
  language.num_hidden_layers = 12;
  language.num_attention_heads = 10;
  language.num_key_value_heads = 10;
  language.use_mla = false;
  language.q_lora_rank = std::nullopt;
  language.kv_lora_rank = 0;
  language.qk_nope_head_dim = 0;
  language.qk_rope_head_dim = 0;
  language.v_head_dim = 0;
  language.n_routed_experts = 64;
  language.n_shared_experts = 2;
  language.num_experts_per_tok = 6;
  language.first_k_dense_replace = 1;
  language.max_position_embeddings = 4096;
  language.bos_token_id = 0;
  language.eos_token_id = 1;
  return language;
}

LanguageConfig small() {
  LanguageConfig language;
  language.hidden_size = 2048;
  language.intermediate_size = 10944;
  language.moe_intermediate_size = 1408;
  language.num_hidden_layers = 27;
  language.num_attention_heads = 16;
  language.num_key_value_heads = 16;
  language.q_lora_rank = std::nullopt;
  language.n_routed_experts = 64;
  language.n_shared_experts = 2;
  language.num_experts_per_tok = 6;
  language.first_k_dense_replace = 1;
  language.max_position_embeddings = 4096;
  return language;
}

LanguageConfig base() {
  LanguageConfig language;
  language.vocab_size = 129280;
  language.hidden_size = 2560;
  language.intermediate_size = 12288;
  language.moe_intermediate_size = 1536;
  language.q_lora_rank = std::nullopt;
  language.n_routed_experts = 72;
  language.n_shared_experts = 2;
  language.num_experts_per_tok = 6;
  language.first_k_dense_replace = 1;
  language.topk_method = TopkMethod::kNoauxTc;
  language.scoring_func = ScoringFunc::kSigmoid;
  language.norm_topk_prob = true;
  language.routed_scaling_factor = 2.0;
  language.max_position_embeddings = 4096;
  language.bos_token_id = 0;
  language.eos_token_id = 1;
  return language;
}

// Toy sizes that keep every switch, and keep sizes apart that a mistake could swap.
LanguageConfig shrink(LanguageConfig language) {
  language.vocab_size = 320;
  language.hidden_size = 48;
  language.intermediate_size = 80;
  language.moe_intermediate_size = 20;
  language.num_hidden_layers = 3;
  language.num_attention_heads = 4;
  language.num_key_value_heads = 4;
  if (language.use_mla) {
    language.kv_lora_rank = 24;
    language.qk_nope_head_dim = 16;
    language.qk_rope_head_dim = 8;
    language.v_head_dim = 10;
  }
  language.n_routed_experts = 8;
  language.num_experts_per_tok = 3;
  language.max_position_embeddings = 1024;
  language.bos_token_id = 0;
  language.eos_token_id = 1;
  return language;
}

}  // namespace

std::vector<std::pair<int64_t, int64_t>> default_candidate_resolutions(int64_t tile_size) {
  std::vector<std::pair<int64_t, int64_t>> resolutions = {
      {1, 1}, {1, 2}, {2, 1}, {1, 3}, {3, 1}, {1, 4}, {4, 1}, {2, 2}, {1, 5}, {5, 1}, {1, 6}, {6, 1},
      {2, 3}, {3, 2}, {1, 7}, {7, 1}, {1, 8}, {8, 1}, {2, 4}, {4, 2}, {1, 9}, {9, 1}, {3, 3}};
  for (auto& [width, height] : resolutions) {
    width *= tile_size;
    height *= tile_size;
  }
  return resolutions;
}

ModelConfig preset_config(std::string_view name) {
  const bool is_test = name.starts_with("test-");
  const std::string_view model = is_test ? name.substr(5) : name;
  ModelConfig config;
  if (model == "tiny") {
    config.language = tiny();
  } else if (model == "small") {
    config.language = small();
  } else if (model == "base") {
    config.language = base();
  } else {
    fail(ErrorCode::kInvalidArgument, "preset \"{}\": expected tiny, small, base, test-tiny, test-small or test-base",
         name);
  }
  if (is_test) {
    config.language = shrink(config.language);
    config.vision.image_size = 72;  // a 5 x 5 grid, which the projector pads, and two pixels that are never read
    config.vision.width = 32;
    config.vision.layers = 2;
    config.vision.heads = 4;
    config.vision.patch_size = 14;
    config.torch_dtype = "float32";
  }
  config.projector.input_dim = config.vision.width;
  config.projector.n_embed = config.language.hidden_size;
  config.candidate_resolutions = default_candidate_resolutions(config.vision.image_size);
  return config;
}

}  // namespace vl2

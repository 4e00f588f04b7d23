// For tests only: a twin of a few hundred kilobytes for every kind of model we run, each changing one thing.
#pragma once

#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/model_spec/model_config.h"

namespace vl2 {

inline std::vector<std::string> variant_names() {
  return {"tiny", "small", "base", "q_lora", "yarn", "groups", "gqa", "dense", "tail"};
}

inline ModelConfig variant_config(const std::string& name) {
  ModelConfig config = preset_config(name == "tiny" || name == "gqa" ? "test-tiny"
                                     : name == "base"                ? "test-base"
                                                                     : "test-small");
  LanguageConfig& c = config.language;
  if (name == "q_lora") {
    c.q_lora_rank = 28;
    c.attention_bias = true;
    c.moe_layer_freq = 2;
  } else if (name == "yarn") {
    c.rope_scaling = RopeScaling{.type = RopeScalingType::kYarn,
                                 .factor = 8.0,
                                 .original_max_position_embeddings = 64,
                                 .beta_fast = 16.0,
                                 .beta_slow = 2.0,
                                 .mscale = 1.0,
                                 .mscale_all_dim = 0.5};
  } else if (name == "groups") {
    c.topk_method = TopkMethod::kGroupLimitedGreedy;
    c.n_group = 4;
    c.topk_group = 2;
    c.norm_topk_prob = true;
    c.routed_scaling_factor = 1.7;
    c.n_shared_experts = 1;
  } else if (name == "gqa") {
    c.num_key_value_heads = 2;
    c.rope_scaling = RopeScaling{.type = RopeScalingType::kLinear, .factor = 4.0};
  } else if (name == "dense") {
    c.n_routed_experts = std::nullopt;
    c.n_shared_experts = 0;
    c.num_experts_per_tok = 0;
    c.tie_word_embeddings = true;
  } else if (name == "tail") {
    config.global_view_first = false;
    config.projector.depth = 3;
    config.projector.mlp_ratio = 2;
    c.n_shared_experts = 0;
  } else if (name != "tiny" && name != "small" && name != "base") {
    fail(ErrorCode::kInvalidArgument, "no variant is called {}", name);
  }
  validate_model_config(config, name);
  return config;
}

}  // namespace vl2

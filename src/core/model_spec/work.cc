#include "core/model_spec/work.h"

#include <cmath>

#include "core/model_spec/weight_schema.h"

namespace vl2 {
namespace {

double real(int64_t n) { return static_cast<double>(n); }

bool has_prefix(const WeightSpec& weight, std::string_view prefix) { return weight.name.starts_with(prefix); }

bool multiplied(const WeightSpec& weight) {
  return weight.role == WeightRole::kMatrix || weight.role == WeightRole::kRouter || weight.role == WeightRole::kExpert;
}

// The matrix that makes logits: with tied embeddings, the table the tokens come from.
bool is_head(const WeightSpec& weight, const LanguageConfig& c) {
  return c.tie_word_embeddings ? weight.role == WeightRole::kEmbedding : weight.name == "language.lm_head.weight";
}

// The share of a tensor's values that one token uses.
double share_per_token(const WeightSpec& weight, const LanguageConfig& c) {
  if (weight.role != WeightRole::kExpert) return 1.0;
  return real(c.num_experts_per_tok) / real(c.n_routed_experts.value_or(1));
}

// Of a tensor that is read whole.
double read_bytes(const WeightSpec& weight, const ModelConfig& config, const StoredBytes& stored) {
  const LanguageConfig& c = config.language;
  // A tied table is packed a second time, as a matrix.
  const auto format =
      is_head(weight, c) && c.tie_word_embeddings ? PanelFormat::kBf16 : panel_format_of(stored.format, weight, config);
  if (!format) return real(num_elements(weight.shape)) * stored.vector;
  if (!is_latent_kv_b(weight, config)) return real(panel_tensor_bytes(*format, weight, config));
  return real(c.num_attention_heads * (matrix_bytes(*format, c.kv_lora_rank, c.qk_nope_head_dim) +
                                       matrix_bytes(*format, c.v_head_dim, c.kv_lora_rank)));
}

}  // namespace

double vision_flops_per_tile(const ModelConfig& config) {
  const VisionConfig& v = config.vision;
  const int64_t tokens = config.tokens_per_side() * config.tokens_per_side();
  double flops = 0;
  for (const WeightSpec& weight : weight_schema(config)) {
    if (!multiplied(weight)) continue;
    if (has_prefix(weight, "vision.")) flops += 2 * real(num_elements(weight.shape)) * real(v.num_patches());
    if (has_prefix(weight, "projector.")) flops += 2 * real(num_elements(weight.shape)) * real(tokens);
  }
  return flops + real(v.layers) * 4 * real(v.num_patches()) * real(v.num_patches()) * real(v.width);
}

double prefill_flops(const ModelConfig& config, int64_t tokens, int64_t past) {
  const LanguageConfig& c = config.language;
  double flops = 0;
  for (const WeightSpec& weight : weight_schema(config)) {
    const bool head = is_head(weight, c);
    if (!has_prefix(weight, "language.") || !(multiplied(weight) || head)) continue;
    flops += 2 * real(num_elements(weight.shape)) * share_per_token(weight, c) * real(head ? 1 : tokens);
  }
  const double pairs = real(tokens) * real(past) + real(tokens) * real(tokens + 1) / 2;
  const int64_t v_dim = c.use_mla ? c.v_head_dim : c.qk_head_dim();
  return flops + real(c.num_hidden_layers * c.num_attention_heads) * 2 * real(c.qk_head_dim() + v_dim) * pairs;
}

double expected_experts(const LanguageConfig& c, int64_t tokens) {
  if (!c.n_routed_experts) return 0;
  const double experts = real(*c.n_routed_experts);
  return experts * (1 - std::pow(1 - real(c.num_experts_per_tok) / experts, real(tokens)));
}

double step_weight_bytes(const ModelConfig& config, const StoredBytes& stored, int64_t tokens, double experts) {
  const LanguageConfig& c = config.language;
  double bytes = real(tokens) * real(c.hidden_size) * stored.lookup;
  for (const WeightSpec& weight : weight_schema(config)) {
    const bool head = is_head(weight, c);
    if (!has_prefix(weight, "language.") || (weight.role == WeightRole::kEmbedding && !head)) continue;
    const bool expert = weight.role == WeightRole::kExpert;
    bytes += read_bytes(weight, config, stored) * (expert ? experts / real(*c.n_routed_experts) : 1.0);
  }
  return bytes;
}

double weight_bytes_per_token(const ModelConfig& config, const StoredBytes& stored) {
  return step_weight_bytes(config, stored, 1, real(config.language.num_experts_per_tok));
}

double vision_weight_bytes(const ModelConfig& config, const StoredBytes& stored) {
  double bytes = 0;
  for (const WeightSpec& weight : weight_schema(config))
    if (weight.role != WeightRole::kUnused && (has_prefix(weight, "vision.") || has_prefix(weight, "projector.")))
      bytes += read_bytes(weight, config, stored);
  return bytes;
}

double cache_bytes_per_token(const ModelConfig& config, const StoredBytes& stored, int64_t past) {
  const LanguageConfig& c = config.language;
  const int64_t width = c.use_mla ? c.kv_lora_rank + c.qk_rope_head_dim : 2 * c.num_key_value_heads * c.qk_head_dim();
  return real(past) * real(width) * real(c.num_hidden_layers) * stored.cache;
}

}  // namespace vl2

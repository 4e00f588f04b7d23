#include "engine/runtime/memory_plan.h"

#include <algorithm>

#include "core/base/tensor_view.h"
#include "core/model_spec/weight_schema.h"
#include "engine/model/attention.h"
#include "engine/model/tiles_at_once.h"
#include "engine/runtime/drafter.h"

namespace vl2 {
namespace {

constexpr int64_t kMostPictureBytes = int64_t{256} << 20;  // unless asked for
constexpr double kFloat = 4;
// The arena grows by half of what it has, so it may end up this much larger than what is used.
constexpr double kArenaSlack = 1.5;

struct WeightBytes {
  double device = 0, host_experts = 0;
};

WeightBytes weight_bytes(const ModelConfig& config, const MemoryPlanInput& input) {
  const BackendFootprint& footprint = input.footprint;
  WeightBytes result;
  double& bytes = result.device;
  for (const WeightSpec& spec : weight_schema(config)) {
    const auto values = static_cast<double>(num_elements(spec.shape));
    const auto panels = input.format ? panel_format_of(*input.format, spec, config) : std::nullopt;
    const auto matrix = [&](const BackendFootprint& kept) {
      return panels ? static_cast<double>(panel_tensor_bytes(*panels, spec, config)) : values * kept.matrix;
    };
    switch (spec.role) {
      case WeightRole::kMatrix:
        bytes += matrix(footprint);
        break;
      case WeightRole::kExpert:
        if (input.gpu_layers >= 0 && spec.layer >= input.gpu_layers)
          result.host_experts += matrix(input.host);
        else
          bytes += matrix(footprint);
        break;
      case WeightRole::kEmbedding:
        bytes += values * footprint.lookup;
        // Tied, the table is packed a second time as the matrix of the logits.
        if (config.language.tie_word_embeddings) bytes += values * footprint.matrix;
        break;
      case WeightRole::kVector:
      case WeightRole::kRouter:
        bytes += values * footprint.vector;
        break;
      case WeightRole::kUnused:
        break;
    }
  }
  return result;
}

// Floats of one row at the widest point of a decoder layer.
double language_row_floats(const LanguageConfig& c) {
  const int64_t heads = c.num_attention_heads * c.qk_head_dim();
  const int64_t attention = c.use_mla ? heads + c.q_lora_rank.value_or(0) + c.kv_lora_rank + c.qk_rope_head_dim +
                                            c.num_attention_heads * c.v_head_dim
                                      : 2 * heads + 2 * c.num_key_value_heads * c.qk_head_dim();
  const int64_t dense = 2 * c.intermediate_size;
  const int64_t routed = c.num_experts_per_tok * (3 * c.moe_intermediate_size + 2 * c.hidden_size) +
                         2 * c.n_shared_experts * c.moe_intermediate_size + c.n_routed_experts.value_or(0);
  // The last of the four: hidden states that embeddings are made of.
  return static_cast<double>(4 * c.hidden_size + std::max({attention, dense, routed}));
}

int64_t chunk_tokens(const MemoryPlanInput& input) {
  return input.prefill_chunk > 0 ? std::min(input.prefill_chunk, input.max_context) : input.max_context;
}

double language_step_bytes(const ModelConfig& config, const MemoryPlanInput& input) {
  const LanguageConfig& c = config.language;
  const auto rows = static_cast<double>(chunk_tokens(input) + input.max_sequences + kMostDrafts);
  // Keys and values of one whole sequence for its prompt: expanded from their latents, or widened.
  const int64_t widened = input.footprint.cache < kFloat ? 2 * c.num_key_value_heads * c.qk_head_dim() : 0;
  const int64_t expanded =
      input.max_context * (c.use_mla ? c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim) : widened);
  const auto logits = static_cast<double>((input.max_sequences + kMostDrafts) * c.vocab_size);
  return kFloat * (rows * language_row_floats(c) + static_cast<double>(expanded) + logits);
}

double vision_step_bytes(const ModelConfig& config, bool on_host) {
  const VisionConfig& c = config.vision;
  const int64_t side = config.tokens_per_side();
  const int64_t encoder = c.num_patches() * (7 * c.width + c.mlp_hidden() + 3 * c.patch_size * c.patch_size);
  const int64_t pixels = 3 * c.image_size * c.image_size;
  return kFloat *
         static_cast<double>(tiles_at_once(on_host) * (encoder + pixels + 2 * side * side * config.projector.n_embed));
}

// Vision tokens that wait for their prefill: at most one prompt more than what fills a step, and those of the prompt
// that is being encoded.
double waiting_features_bytes(const ModelConfig& config, const MemoryPlanInput& input) {
  return kFloat * static_cast<double>((chunk_tokens(input) + 2 * input.max_context) * config.language.hidden_size);
}

}  // namespace

MemoryReport plan_memory(const ModelConfig& config, const MemoryPlanInput& input) {
  const LanguageConfig& c = config.language;
  MemoryReport report;
  report.cached_tokens = input.cached_tokens;
  report.pictures = input.picture_cache_bytes;
  const WeightBytes weights = weight_bytes(config, input);
  report.weights = static_cast<int64_t>(weights.device);
  report.host_experts = static_cast<int64_t>(weights.host_experts);
  report.cache = static_cast<int64_t>(input.footprint.cache * static_cast<double>(input.cached_tokens) *
                                      static_cast<double>(cache_width(c) * c.num_hidden_layers));
  report.activations = static_cast<int64_t>(
      kArenaSlack * std::max(language_step_bytes(config, input), vision_step_bytes(config, input.footprint.on_host)) +
      waiting_features_bytes(config, input));
  report.activations += input.other_bytes;
  return report;
}

int64_t default_picture_cache(const MemoryReport& plan, int64_t available) {
  return std::clamp<int64_t>((available - plan.total()) / 4, 0, kMostPictureBytes);
}

void check_memory(const MemoryReport& plan, int64_t available, const std::string& model, const std::string& place) {
  if (plan.total() <= available) return;
  const std::string pictures = plan.pictures > 0 ? format_bytes(plan.pictures) : "";
  fail(ErrorCode::kOutOfMemory,
       "{} needs {} of {} (weights {}, cache for {} tokens {}, activations {}{}), but only {} are available. "
       "Close other programs, or ask for less: a shorter context or fewer cached tokens, a smaller prefill chunk, "
       "a quantised or smaller model{}.",
       model, format_bytes(plan.total()), place, format_bytes(plan.weights), plan.cached_tokens,
       format_bytes(plan.cache), format_bytes(plan.activations), pictures.empty() ? "" : ", pictures " + pictures,
       format_bytes(available), pictures.empty() ? "" : ", a smaller picture cache");
}

}  // namespace vl2

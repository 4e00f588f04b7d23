#include "core/model_spec/train_memory.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/format_bytes.h"

namespace vl2 {
namespace {

constexpr double kFloat = 4, kHalf = 2;

double real(int64_t n) { return static_cast<double>(n); }

// What the backward pass of attention needs of the scores of one head and row.
double score_bytes(const TrainMemoryInput& input, int64_t keys, double a) {
  return input.fused ? kFloat : real(keys) * a;
}

// Of one tile.
double vision_block_bytes(const VisionConfig& c, const TrainMemoryInput& input, double a) {
  const double values = real(8 * c.width + 2 * c.mlp_hidden());
  return real(c.num_patches()) * (values * a + real(c.heads) * score_bytes(input, c.num_patches(), a));
}
double vision_input_bytes(const VisionConfig& c, double a) { return real(c.num_patches() * c.width) * a; }

double projector_bytes(const ModelConfig& config, double a) {
  const ProjectorConfig& c = config.projector;
  const int64_t hidden = c.n_embed * c.mlp_ratio, layers = c.num_linears();
  const int64_t width = c.input_dim * c.downsample_ratio * c.downsample_ratio + 2 * (layers - 1) * hidden + c.n_embed;
  return real(config.tokens_per_side() * config.tokens_per_side() * width) * a;
}

double attention_values(const LanguageConfig& c) {
  const int64_t q = c.num_attention_heads * c.qk_head_dim();
  if (!c.use_mla) return real(3 * q + 3 * c.num_key_value_heads * c.qk_head_dim());
  const int64_t latents = 2 * c.q_lora_rank.value_or(0) + 2 * c.kv_lora_rank + c.qk_rope_head_dim;
  return real(4 * q + 2 * c.num_attention_heads * c.v_head_dim + latents);
}

double mlp_values(const LanguageConfig& c, int64_t layer, bool fused) {
  const int64_t gated = fused ? 3 : 4;  // gate, its SiLU, up, their product
  if (!c.is_moe(layer)) return real(gated * c.intermediate_size);
  const int64_t k = c.num_experts_per_tok;
  return real(k * (gated * c.moe_intermediate_size + 2 * c.hidden_size) +
              gated * c.n_shared_experts * c.moe_intermediate_size + 2 * *c.n_routed_experts);
}

double layer_bytes(const LanguageConfig& c, int64_t layer, const TrainMemoryInput& input, double a) {
  const int64_t longest = input.longest_sample > 0 ? std::min(input.longest_sample, input.tokens) : input.tokens;
  const double values = 5 * real(c.hidden_size) + attention_values(c) + mlp_values(c, layer, input.fused);
  return real(input.tokens) * (values * a + real(c.num_attention_heads) * score_bytes(input, longest, a));
}

// What the gradient's way back goes through.
struct Reach {
  bool vision = false, projector = false, language = false;
};

double activation_bytes(const ModelConfig& config, const TrainMemoryInput& input, const Reach& reach) {
  const LanguageConfig& c = config.language;
  const double a = input.bf16_compute ? kHalf : kFloat, tiles = real(input.tiles);
  double kept = 0, working = 0;
  const double block = tiles * vision_block_bytes(config.vision, input, a);
  working = std::max(working, block);
  const int64_t recomputed = input.recomputed_vision_blocks < 0
                                 ? config.vision.layers
                                 : std::min(input.recomputed_vision_blocks, config.vision.layers);
  if (reach.vision)
    kept += real(config.vision.layers - recomputed) * block +
            real(recomputed) * tiles * vision_input_bytes(config.vision, a);
  if (reach.projector) kept += tiles * projector_bytes(config, a);
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const double bytes = layer_bytes(c, layer, input, a);
    working = std::max(working, bytes);
    if (reach.language) kept += input.recompute_language ? real(input.tokens * c.hidden_size) * a : bytes;
  }
  const double pixels = tiles * real(3 * config.vision.image_size * config.vision.image_size) * kFloat;
  return kept + working + pixels + real(input.tokens * c.vocab_size) * (a + 2 * kFloat);
}

}  // namespace

TrainMemory plan_train_memory(const ModelConfig& config, const TrainMemoryInput& input) {
  TrainMemory plan;
  Reach reach;
  for (const WeightSpec& spec : weight_schema(config)) {
    if (spec.role == WeightRole::kUnused) continue;
    const bool vision = spec.name.starts_with("vision."), language = spec.name.starts_with("language.");
    const bool trains = !input.trains || input.trains(spec);
    (trains ? plan.trained_parameters : plan.frozen_parameters) += num_elements(spec.shape);
    if (!trains) continue;
    reach.vision |= vision;
    reach.projector |= !language;
    reach.language = true;
  }
  reach.language |= input.adapter_parameters > 0;
  plan.trained_parameters += input.adapter_parameters;
  const double trained = real(plan.trained_parameters);
  const double copies = input.bf16_compute ? kHalf : 0;
  plan.weights = static_cast<int64_t>(trained * (kFloat + copies) + real(plan.frozen_parameters) * input.frozen_bytes);
  plan.gradients = static_cast<int64_t>(real(input.replicas) * trained * kFloat);
  plan.optimizer = static_cast<int64_t>(trained * 2 * (input.bf16_moments ? kHalf : kFloat));
  plan.activations = static_cast<int64_t>(real(input.replicas) * activation_bytes(config, input, reach));
  return plan;
}

std::string train_memory_text(const TrainMemory& p) {
  const auto millions = [](int64_t n) { return fmt::format("{:.1f} M", static_cast<double>(n) / 1e6); };
  return fmt::format(
      "memory   {} in all (trained {} of {} parameters)\n"
      "         weights {}, gradients {}, optimiser {}, activations about {}\n",
      format_bytes(p.total()), millions(p.trained_parameters), millions(p.trained_parameters + p.frozen_parameters),
      format_bytes(p.weights), format_bytes(p.gradients), format_bytes(p.optimizer), format_bytes(p.activations));
}

void check_train_memory(const TrainMemory& p, int64_t available) {
  if (p.total() <= available) return;
  fail(
      ErrorCode::kOutOfMemory,
      "training needs {} of memory (weights {}, gradients {}, optimiser {}, activations about {}), but only {} are "
      "available. Ask for less: a smaller micro_batch or max_length, recompute, bf16_optimizer, more frozen, the stage "
      "lora, a smaller model",
      format_bytes(p.total()), format_bytes(p.weights), format_bytes(p.gradients), format_bytes(p.optimizer),
      format_bytes(p.activations), format_bytes(available));
}

}  // namespace vl2

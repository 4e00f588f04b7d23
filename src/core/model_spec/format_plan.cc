#include "core/model_spec/format_plan.h"

#include <array>

namespace vl2 {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"bf16", "q8", "q4", "mixed"};

}  // namespace

std::string_view model_format_name(ModelFormat format) { return kNames[static_cast<size_t>(format)]; }

std::optional<ModelFormat> parse_model_format(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return static_cast<ModelFormat>(i);
  return std::nullopt;
}

bool is_latent_kv_b(const WeightSpec& weight, const ModelConfig& config) {
  return config.language.use_mla && weight.name.ends_with(".self_attn.kv_b_proj.weight");
}

std::optional<PanelFormat> panel_format_of(ModelFormat format, const WeightSpec& weight, const ModelConfig& config) {
  const bool expert = weight.role == WeightRole::kExpert;
  if (weight.role != WeightRole::kMatrix && !expert) return std::nullopt;
  const bool language = weight.name.starts_with("language.");
  switch (format) {
    case ModelFormat::kBf16:
      return PanelFormat::kBf16;
    case ModelFormat::kQ8:
      return PanelFormat::kQ8;
    case ModelFormat::kQ4:
      return language && !is_latent_kv_b(weight, config) ? PanelFormat::kQ4 : PanelFormat::kQ8;
    case ModelFormat::kMixed:
      if (expert) return PanelFormat::kQ4;
      return language ? PanelFormat::kQ8 : PanelFormat::kBf16;
  }
  fail(ErrorCode::kInternal, "no such model format");
}

int64_t panel_tensor_bytes(PanelFormat format, const WeightSpec& weight, const ModelConfig& config) {
  if (is_latent_kv_b(weight, config)) {
    const LanguageConfig& c = config.language;
    const int64_t nope = c.qk_nope_head_dim, rank = c.kv_lora_rank;
    return c.num_attention_heads * (matrix_bytes(format, nope, rank) + matrix_bytes(format, c.v_head_dim, rank) +
                                    matrix_bytes(format, rank, nope));
  }
  const int64_t rows = weight.shape[0];
  return matrix_bytes(format, rows, num_elements(weight.shape) / rows);
}

}  // namespace vl2

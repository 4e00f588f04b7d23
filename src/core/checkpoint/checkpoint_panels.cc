// Matrices stored as panels, and the check of a whole checkpoint against its config.
#include <array>
#include <cstdint>

#include "core/checkpoint/checkpoint.h"
#include "core/model_spec/format_plan.h"

namespace vl2 {
namespace {

constexpr std::array kFormats = {PanelFormat::kBf16, PanelFormat::kQ8, PanelFormat::kQ4};
constexpr std::array<const char*, 4> kStems = {"", ".uk", ".uv", ".uk_t"};

std::string stored_name(const std::string& stem, PanelFormat format) {
  return fmt::format("{}.{}", stem, panel_format_name(format));
}

}  // namespace

// The first of `count` matrices in one tensor; 0: one, whose panels are the tensor's rows.
std::optional<PanelMatrix> Checkpoint::stored(const std::string& stem, int64_t count, int64_t rows,
                                              int64_t cols) const {
  std::optional<PanelFormat> found;
  for (const PanelFormat format : kFormats) {
    if (find(stored_name(stem, format)) == nullptr) continue;
    if (found)
      fail(ErrorCode::kCorrupt, "{}: both {} and {} are there, expected one of them", folder_.string(),
           stored_name(stem, *found), stored_name(stem, format));
    found = format;
  }
  if (!found) return std::nullopt;
  const std::string name = stored_name(stem, *found);
  const TensorView& tensor = at(name);
  const int64_t bytes = matrix_bytes(*found, rows, cols), panels = (rows + kPanelRows - 1) / kPanelRows;
  const Shape expected = count == 0 ? Shape{panels, panel_bytes(*found, cols)} : Shape{count, bytes};
  if (tensor.dtype != DType::kU8 || tensor.shape != expected)
    fail(ErrorCode::kCorrupt, "{}: {} is {} {}, expected U8 {} for a matrix of {} x {}", folder_.string(), name,
         dtype_name(tensor.dtype), shape_string(tensor.shape), shape_string(expected), rows, cols);
  if (reinterpret_cast<uintptr_t>(tensor.data) % 64 != 0)
    fail(ErrorCode::kCorrupt,
         "{}: {} does not begin at a multiple of 64 bytes: the file was rewritten by another program; quantise the "
         "model again",
         folder_.string(), name);
  return PanelMatrix{*found, rows, cols, tensor.data};
}

std::optional<PanelMatrix> Checkpoint::panels(const std::string& weight, int64_t rows, int64_t cols) const {
  const std::optional<PanelMatrix> found = stored(weight, 0, rows, cols);
  if (found && find(weight) != nullptr)
    fail(ErrorCode::kCorrupt, "{}: {} is there plainly and as {}, expected one of them", folder_.string(), weight,
         panel_format_name(found->format));
  return found;
}

std::optional<LatentPanels> Checkpoint::latent_panels(const std::string& weight, int64_t heads, int64_t qk_nope,
                                                      int64_t v, int64_t rank) const {
  const auto uk = stored(weight + ".uk", heads, qk_nope, rank), uv = stored(weight + ".uv", heads, v, rank);
  const auto uk_transposed = stored(weight + ".uk_t", heads, rank, qk_nope);
  if (!uk && !uv && !uk_transposed) return std::nullopt;
  if (!uk || !uv || !uk_transposed || find(weight) != nullptr)
    fail(ErrorCode::kCorrupt, "{}: {} {}, expected .uk, .uv and .uk_t and nothing else", folder_.string(), weight,
         find(weight) != nullptr ? "is there plainly and as panels" : "lacks one of its three parts");
  return LatentPanels{*uk, *uv, *uk_transposed, heads};
}

std::shared_ptr<const void> Checkpoint::owner(const std::string& weight) const {
  if (const auto it = owner_.find(weight); it != owner_.end()) return it->second;
  for (const char* stem : kStems)
    for (const PanelFormat format : kFormats)
      if (const auto it = owner_.find(stored_name(weight + stem, format)); it != owner_.end()) return it->second;
  fail(ErrorCode::kNotFound, "{}: no tensor \"{}\", nor panels of it, in this checkpoint", folder_.string(), weight);
}

// "": none. Without the folder.
std::string Checkpoint::problem_with(const WeightSpec& spec, const ModelConfig& config) const {
  if (panel_format_of(ModelFormat::kBf16, spec, config)) {  // a matrix
    const bool latent = is_latent_kv_b(spec, config);
    const int64_t rows = spec.shape[0];
    const LanguageConfig& c = config.language;
    const bool found =
        latent ? latent_panels(spec.name, c.num_attention_heads, c.qk_nope_head_dim, c.v_head_dim, c.kv_lora_rank)
                     .has_value()
               : panels(spec.name, rows, num_elements(spec.shape) / rows).has_value();
    if (found && !config.quantization)
      return spec.name + " is quantised, but config.json has no quantization_config; take it from the same folder";
    if (found) return "";
  }
  const TensorView* tensor = find(spec.name);
  if (tensor == nullptr) return fmt::format("{} is missing, expected {}", spec.name, shape_string(spec.shape));
  if (tensor->shape != spec.shape)
    return fmt::format("{} is {}, expected {}", spec.name, shape_string(tensor->shape), shape_string(spec.shape));
  if (!is_float(tensor->dtype))
    return fmt::format("{} is {}, expected BF16, F16, F32 or F64", spec.name, dtype_name(tensor->dtype));
  return "";
}

void Checkpoint::check(const ModelConfig& config) const {
  constexpr size_t kListed = 5;
  size_t num_problems = 0;
  std::string problems;
  for (const WeightSpec& spec : weight_schema(config)) {
    if (spec.role == WeightRole::kUnused) continue;
    const std::string problem = problem_with(spec, config);
    if (!problem.empty() && ++num_problems <= kListed) problems += "\n  " + problem;
  }
  if (num_problems == 0) return;
  if (num_problems > kListed) problems += fmt::format("\n  and {} more", num_problems - kListed);
  fail(ErrorCode::kCorrupt, "{}: the weights do not fit config.json:{}", folder_.string(), problems);
}

}  // namespace vl2

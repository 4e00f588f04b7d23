#include "apps/cli/model_files.h"

#include "core/model_spec/weight_schema.h"

namespace vl2::cli {
namespace {

DType find_matrix_type(const ModelConfig& config, const Checkpoint& checkpoint) {
  if (config.quantization) return DType::kBF16;
  for (const WeightSpec& spec : weight_schema(config))
    if (spec.role == WeightRole::kMatrix && spec.name.starts_with("language.")) return checkpoint.at(spec.name).dtype;
  return DType::kF32;
}

}  // namespace

ModelFiles::ModelFiles(const std::filesystem::path& model_folder)
    : folder(model_folder), config(load_model_config(folder / "config.json")), checkpoint(folder) {
  checkpoint.check(config);
  matrix_type = find_matrix_type(config, checkpoint);
}

}  // namespace vl2::cli

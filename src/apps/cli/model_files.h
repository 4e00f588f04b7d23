// A model folder opened for looking at: its config, and its checkpoint checked against it.
#pragma once

#include <filesystem>

#include "core/checkpoint/checkpoint.h"
#include "core/model_spec/model_config.h"

namespace vl2::cli {

// Owns the mapped checkpoint.
struct ModelFiles {
  explicit ModelFiles(const std::filesystem::path& model_folder);  // errors of its parts, and of Checkpoint::check

  std::filesystem::path folder;
  ModelConfig config;
  Checkpoint checkpoint;
  DType matrix_type;  // what the decoder's matrices are stored as; BF16 where they are quantised
};

}  // namespace vl2::cli

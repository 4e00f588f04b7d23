// What a server would take and allow, known before anything is loaded: --dry-run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "apps/cli/model_files.h"
#include "apps/cli/serve_options.h"
#include "engine/runtime/placement.h"

namespace vl2::cli {

struct ServePlan {
  MemoryReport memory;  // `available`: INT64_MAX where that is not known
  std::string place;    // of that memory
  std::string backend;  // what "auto" stands for
  int64_t gpu_layers = -1;
  int64_t context = 0, cached_tokens = 0;
};

// Without --cache-tokens: room for as many whole contexts as answers are made at a time, as far as memory goes.
ServePlan plan_serve(const ServeOptions& options, const ModelFiles& model);

std::string plan_text(const ServeOptions& options, const std::filesystem::path& folder, const ServePlan& plan);
nlohmann::ordered_json plan_json(const ServeOptions& options, const std::filesystem::path& folder,
                                 const ServePlan& plan);

}  // namespace vl2::cli

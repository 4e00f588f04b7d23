// processor_config.json: how pictures are cut and prompts are labelled (spec/text.md 3, 4).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/image/tiling.h"
#include "core/model_spec/model_config.h"

namespace vl2 {

// The defaults are the releases' own.
struct ProcessorConfig {
  Resolutions candidate_resolutions = default_candidate_resolutions();
  int64_t patch_size = 14;
  int64_t downsample_ratio = 2;
  bool mask_prompt = false;
  std::string image_token = "<image>";
  std::string pad_token = "<｜▁pad▁｜>";
  std::string bos_token = "<｜begin▁of▁sentence｜>";
  std::string eos_token = "<｜end▁of▁sentence｜>";

  int64_t tile_size() const { return candidate_resolutions.front().first; }
  // Vision tokens along one side of a tile: 14 in the releases.
  int64_t tokens_per_side() const { return (tile_size() / patch_size + downsample_ratio - 1) / downsample_ratio; }
};

// kCorrupt: not JSON, wrong types, impossible sizes. kUnsupported: another chat template, another normalisation.
ProcessorConfig parse_processor_config(std::string_view json, const std::string& where);

// What the model's own config.json says about pictures; the rest as in the releases.
ProcessorConfig processor_config_of(const ModelConfig& model);

// processor_config.json of a model folder, or without one config.json, or the releases' defaults; and bos_token and
// eos_token from tokenizer_config.json where it is there.
ProcessorConfig load_processor_config(const std::filesystem::path& folder);

}  // namespace vl2

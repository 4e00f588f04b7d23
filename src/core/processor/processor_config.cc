#include "core/processor/processor_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "core/base/json.h"

namespace vl2 {
namespace {

constexpr int64_t kLargestSide = 1 << 16;

Resolutions resolutions(const JsonObject& object, Resolutions fallback) {
  const nlohmann::json* list = object.find("candidate_resolutions");
  if (list == nullptr) return fallback;
  const char* expected = "a list of [width, height], each a multiple of the first width, at most 65536";
  Resolutions result;
  if (!list->is_array() || list->empty() || list->size() > 4096) object.reject("candidate_resolutions", expected);
  for (const nlohmann::json& pair : *list) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_integer() || !pair[1].is_number_integer())
      object.reject("candidate_resolutions", expected);
    result.emplace_back(pair[0].get<int64_t>(), pair[1].get<int64_t>());
    const int64_t tile = result.front().first;
    const auto& [width, height] = result.back();
    if (tile < 1 || width < 1 || height < 1 || width > kLargestSide || height > kLargestSide || width % tile != 0 ||
        height % tile != 0)
      object.reject("candidate_resolutions", expected);
  }
  return result;
}

// The pixels' mean and spread are built into core/image/normalize: anything else would be silently wrong.
void expect_halves(const JsonObject& object, const std::string& key) {
  const nlohmann::json* list = object.find(key);
  if (list == nullptr) return;
  const auto is_half = [](const nlohmann::json& x) { return x.is_number() && x.get<double>() == 0.5; };
  if (!list->is_array() || list->size() != 3 || !std::all_of(list->begin(), list->end(), is_half))
    object.reject(key, "[0.5, 0.5, 0.5], the only one we run", ErrorCode::kUnsupported);
}

// A token is written as its text, or as an object with the text under "content".
std::string token_text(const JsonObject& object, const std::string& key, const std::string& fallback) {
  const nlohmann::json* value = object.find(key);
  if (value == nullptr || value->is_null()) return fallback;
  if (value->is_string()) return value->get<std::string>();
  if (value->is_object() && value->contains("content") && (*value)["content"].is_string())
    return (*value)["content"].get<std::string>();
  object.reject(key, "a string, or an object with a string \"content\"");
}

}  // namespace

ProcessorConfig parse_processor_config(std::string_view json, const std::string& where) {
  const nlohmann::json document = parse_json(json, where);
  const JsonObject object(document, where);
  ProcessorConfig config;
  config.candidate_resolutions = resolutions(object, config.candidate_resolutions);
  config.patch_size = object.integer("patch_size", config.patch_size, 1, config.tile_size());
  config.downsample_ratio =
      object.integer("downsample_ratio", config.downsample_ratio, 1, config.tile_size() / config.patch_size);
  config.mask_prompt = object.boolean("mask_prompt", config.mask_prompt);
  config.image_token = object.string("image_token", config.image_token);
  config.pad_token = object.string("pad_token", config.pad_token);
  if (config.image_token.empty()) object.reject("image_token", "a token's text");
  if (config.pad_token.empty()) object.reject("pad_token", "a token's text");
  if (object.string("sft_format", "deepseek") != "deepseek")
    object.reject("sft_format", "\"deepseek\", the releases' chat template", ErrorCode::kUnsupported);
  if (!object.boolean("normalize", true)) object.reject("normalize", "true", ErrorCode::kUnsupported);
  expect_halves(object, "image_mean");
  expect_halves(object, "image_std");
  return config;
}

ProcessorConfig processor_config_of(const ModelConfig& model) {
  ProcessorConfig config;
  config.candidate_resolutions = model.candidate_resolutions;
  config.patch_size = model.vision.patch_size;
  config.downsample_ratio = model.projector.downsample_ratio;
  return config;
}

ProcessorConfig load_processor_config(const std::filesystem::path& folder) {
  ProcessorConfig config;
  const std::filesystem::path file = folder / "processor_config.json", tokens = folder / "tokenizer_config.json";
  if (std::filesystem::exists(file))
    config = parse_processor_config(read_file(file), file.string());
  else if (std::filesystem::exists(folder / "config.json"))
    config = processor_config_of(load_model_config(folder / "config.json"));
  if (std::filesystem::exists(tokens)) {
    const nlohmann::json document = parse_json(read_file(tokens), tokens.string());
    const JsonObject object(document, tokens.string());
    config.bos_token = token_text(object, "bos_token", config.bos_token);
    config.eos_token = token_text(object, "eos_token", config.eos_token);
  }
  return config;
}

}  // namespace vl2

// The golden models and their cases, by name, so that tests can be listed where the data is absent.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "engine/model/deepseek_vl2.h"

namespace vl2::parity {

struct GoldenModel {
  std::string name;
  std::vector<std::string> cases;
};

inline std::vector<GoldenModel> golden_models() {
  const std::vector<std::string> all = {"text", "img11", "img23", "img31", "img2", "img3", "batch"};
  const std::vector<std::string> some = {"text", "img11", "img2", "batch"};
  return {{"a_tiny_mha", all},   {"b_small_mla", all}, {"b_small_mla_bf16", {"text", "img11"}},
          {"c_base_noaux", all}, {"d1_qlora", some},   {"d2_yarn", some},
          {"e_group", some},     {"g_gqa_tail", some}};
}

// A model folder packed for one backend; `ops` must outlive it.
inline std::unique_ptr<DeepseekVl2> load_model(const std::filesystem::path& folder, Ops& ops) {
  const Checkpoint checkpoint(folder);
  CheckpointSource source(checkpoint);
  return std::make_unique<DeepseekVl2>(load_model_config(folder / "config.json"), ops, source);
}

}  // namespace vl2::parity

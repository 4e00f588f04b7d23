// LoRA adapters as requests name them. An adapter is merged into the weights while the model is loaded, so there is one
// or none, at full strength, for everybody: whoever asks for something else is told so.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace vl2 {
class Engine;
}

namespace vl2::server {

struct LoraChoice {
  int64_t id = 0;
  double scale = 1;
};

// [{"id", "scale"}]. ApiError 400.
std::vector<LoraChoice> parse_lora(const nlohmann::json& value, const std::string& param);

// ApiError 400 unsupported_value: this is not what is merged, which is adapter 0 at scale 1, or none.
void check_lora(const Engine& engine, const std::vector<LoraChoice>& choices, const std::string& param);

// [{"id", "name", "path", "scale"}]
nlohmann::ordered_json lora_json(const Engine& engine);

}  // namespace vl2::server

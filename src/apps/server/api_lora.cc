#include "apps/server/api_lora.h"

#include <nlohmann/json.hpp>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "core/base/json.h"
#include "engine/runtime/engine.h"

namespace vl2::server {
namespace {

constexpr size_t kMostChoices = 64;

// The last part of a path that may end with a slash.
std::string name_of(const std::filesystem::path& path) {
  const std::filesystem::path whole = path.lexically_normal();
  return (whole.has_filename() ? whole.filename() : whole.parent_path().filename()).string();
}

}  // namespace

std::vector<LoraChoice> parse_lora(const nlohmann::json& value, const std::string& param) {
  if (!value.is_array() || value.size() > kMostChoices)
    throw ApiError(400, fmt::format("{} is {}, expected a list of {{\"id\", \"scale\"}}", param, describe_json(value)),
                   "", param);
  std::vector<LoraChoice> result;
  for (size_t i = 0; i < value.size(); ++i) {
    const Fields fields(value[i], fmt::format("{}[{}]", param, i));
    const auto id = fields.integer("id", 0, INT32_MAX);
    if (!id) fields.reject("id", "the number of an adapter");
    result.push_back({*id, fields.number("scale", -1000, 1000).value_or(1)});
  }
  return result;
}

void check_lora(const Engine& engine, const std::vector<LoraChoice>& choices, const std::string& param) {
  const bool merged = !engine.lora().empty();
  bool on = false;
  for (const LoraChoice& choice : choices) {
    if (choice.id != 0 || !merged)
      throw ApiError(
          400,
          fmt::format("{}: there is no adapter {}; {}", param, choice.id,
                      merged ? "the one that is merged has the id 0"
                             : "the server was started without --lora, and adapters are merged at the start"),
          "unsupported_value", param);
    if (choice.scale != 0 && choice.scale != 1)
      throw ApiError(400,
                     fmt::format("{}: adapter 0 at scale {} is not possible: it is merged into the model's weights, at "
                                 "scale 1",
                                 param, choice.scale),
                     "unsupported_value", param);
    on = choice.scale == 1;
  }
  if (on != merged)
    throw ApiError(400,
                   fmt::format("{}: answers without adapter 0 are not possible: it is merged into the model's weights; "
                               "start a server without --lora for them",
                               param),
                   "unsupported_value", param);
}

nlohmann::ordered_json lora_json(const Engine& engine) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  if (!engine.lora().empty())
    list.push_back({{"id", 0}, {"name", name_of(engine.lora())}, {"path", engine.lora().string()}, {"scale", 1.0}});
  return list;
}

}  // namespace vl2::server

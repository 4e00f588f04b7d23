#include "train/recipe/overrides.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "core/base/error.h"
#include "core/base/json.h"

namespace vl2::train {
namespace {

using nlohmann::json;

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> names;
  while (true) {
    const size_t dot = path.find('.');
    names.emplace_back(path.substr(0, dot));
    if (dot == path.npos) return names;
    path.remove_prefix(dot + 1);
  }
}

std::optional<size_t> list_index(const std::string& name, size_t size) {
  size_t index = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (error != std::errc() || end != name.data() + name.size() || index > size) return std::nullopt;
  return index;
}

// Strict JSON, or the text itself.
json value_of(const std::string& text) {
  try {
    return parse_json(text, "the value");
  } catch (const Error&) {
    return text;
  }
}

}  // namespace

void apply_override(json& root, const std::string& text, const std::string& where) {
  const size_t equals = text.find('=');
  if (equals == text.npos || equals == 0)
    fail(ErrorCode::kInvalidArgument,
         "\"{}\": expected KEY=VALUE, e.g. learning_rate=1e-4 or data.0.path=records.jsonl", text);
  const std::vector<std::string> names = split(std::string_view(text).substr(0, equals));
  const std::string value = text.substr(equals + 1);
  json* at = &root;
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string& name = names[i];
    const auto refuse = [&](std::string_view expected) {
      fail(ErrorCode::kInvalidArgument, "\"{}\" for {}: \"{}\" {}", text, where, name, expected);
    };
    if (name.empty()) refuse("names nothing; write the path as a.b=value");
    const bool last = i + 1 == names.size();
    if (at->is_null()) *at = json::object();
    if (at->is_array()) {
      const auto index = list_index(name, at->size());
      if (!index) refuse(fmt::format("is no element of a list of {}", at->size()));
      if (last && value.empty()) {
        if (*index < at->size()) at->erase(*index);
        return;
      }
      if (*index == at->size()) at->push_back(nullptr);
      at = &(*at)[*index];
    } else if (at->is_object()) {
      if (last && value.empty()) {
        at->erase(name);
        return;
      }
      at = &(*at)[name];
    } else {
      refuse("lies inside something that is neither object nor list");
    }
  }
  *at = value_of(value);
}

}  // namespace vl2::train

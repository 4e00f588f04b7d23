#include "core/base/json.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

namespace vl2 {

using nlohmann::json;

json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    fail(ErrorCode::kCorrupt, "{}: {} bytes of JSON, expected at most {}", where, text.size(), limits.max_bytes);
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        if (depth >= limits.max_depth)
          fail(ErrorCode::kCorrupt, "{}: JSON nested more than {} levels deep", where, limits.max_depth);
        if (event == json::parse_event_t::object_start) keys.emplace_back();
        break;
      case json::parse_event_t::object_end:
        keys.pop_back();
        break;
      case json::parse_event_t::key:
        if (!keys.back().insert(value.get<std::string>()).second)
          fail(ErrorCode::kCorrupt, "{}: the key {} appears twice in one object, expected once", where,
               describe_json(value));
        break;
      default:
        break;
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), watch);
  } catch (const json::exception& error) {
    fail(ErrorCode::kCorrupt, "{}: not valid JSON: {}; get the file again", where, error.what());
  }
}

std::string describe_json(const json& value) {
  if (value.is_object()) return fmt::format("an object of {} keys", value.size());
  if (value.is_array()) return fmt::format("a list of {} values", value.size());
  constexpr size_t kShown = 80;
  const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() <= kShown ? text : text.substr(0, kShown) + "...";
}

JsonObject::JsonObject(const json& value, std::string where, std::string path)
    : value_(value), where_(std::move(where)), path_(std::move(path)) {
  if (!value_.is_object())
    fail(ErrorCode::kCorrupt, "{}: {} is {}, expected an object", where_, path_.empty() ? "the whole file" : path_,
         describe_json(value_));
}

const json* JsonObject::find(const std::string& key) const {
  const auto it = value_.find(key);
  return it == value_.end() ? nullptr : &*it;
}

std::string JsonObject::name(const std::string& key) const {
  return fmt::format("{}: {}{}{}", where_, path_, path_.empty() ? "" : ".", key);
}

void JsonObject::reject(const std::string& key, const std::string& expected, ErrorCode code) const {
  const json* value = find(key);
  fail(code, "{} is {}, expected {}", name(key), value == nullptr ? "missing" : describe_json(*value), expected);
}

int64_t JsonObject::integer(const std::string& key, int64_t fallback, int64_t low, int64_t high) const {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  const auto expected = [&] { return fmt::format("an integer from {} to {}", low, high); };
  if (!value->is_number_integer()) reject(key, expected());
  if (value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()})
    reject(key, expected());
  const int64_t number = value->get<int64_t>();
  if (number < low || number > high) reject(key, expected());
  return number;
}

std::optional<int64_t> JsonObject::optional_integer(const std::string& key, std::optional<int64_t> fallback,
                                                    int64_t low, int64_t high) const {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_null()) return std::nullopt;
  return integer(key, 0, low, high);
}

double JsonObject::number(const std::string& key, double fallback, double low, double high) const {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number()) reject(key, "a number");
  const double number = value->get<double>();
  if (!std::isfinite(number) || number < low || number > high)
    reject(key, fmt::format("a number from {} to {}", low, high));
  return number;
}

bool JsonObject::boolean(const std::string& key, bool fallback) const {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) reject(key, "true or false");
  return value->get<bool>();
}

std::string JsonObject::string(const std::string& key, const std::string& fallback) const {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) reject(key, "a string");
  return value->get<std::string>();
}

}  // namespace vl2

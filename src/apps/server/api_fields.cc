#include "apps/server/api_fields.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/server/api_error.h"
#include "core/base/json.h"

namespace vl2::server {

using nlohmann::json;

Fields::Fields(const json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (!object.is_object())
    throw ApiError(400, fmt::format("{} is {}, expected an object", path_, describe_json(object)), "", path_);
}

const json* Fields::find(const std::string& key) const {
  const auto at = object_.find(key);
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

std::string Fields::name(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }

void Fields::reject(const std::string& key, const std::string& expected, const std::string& code) const {
  const json* value = find(key);
  throw ApiError(
      400,
      fmt::format("{} is {}, expected {}", name(key), value != nullptr ? describe_json(*value) : "missing", expected),
      code, name(key));
}

std::optional<double> Fields::number(const std::string& key, double low, double high) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= low && number <= high)) reject(key, fmt::format("a number from {} to {}", low, high));
  return number;
}

std::optional<int64_t> Fields::integer(const std::string& key, int64_t low, int64_t high) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto wrong = [&]() { reject(key, fmt::format("a whole number from {} to {}", low, high)); };
  int64_t result = 0;
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) wrong();
  if (value->is_number_integer()) {
    result = value->get<int64_t>();
  } else {
    const double number = value->is_number() ? value->get<double>() : std::nan("");
    if (!(std::abs(number) < 0x1p53) || number != std::floor(number)) wrong();
    result = static_cast<int64_t>(number);
  }
  if (result < low || result > high) wrong();
  return result;
}

std::optional<bool> Fields::boolean(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) reject(key, "true or false");
  return value->get<bool>();
}

std::optional<std::string> Fields::string(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) reject(key, "a string");
  return value->get<std::string>();
}

}  // namespace vl2::server

#include "train/recipe/strict_object.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/nearest_name.h"

namespace vl2::train {

using nlohmann::json;

StrictObject::StrictObject(const json& value, std::string where, std::string path)
    : value_(value), object_(value, std::move(where), path), path_(std::move(path)) {}

const json* StrictObject::find(const std::string& key) {
  known_.insert(key);
  return object_.find(key);
}

bool StrictObject::has(const std::string& key) { return find(key) != nullptr; }

std::string StrictObject::path_of(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }

void StrictObject::reject(const std::string& key, const std::string& expected) { object_.reject(key, expected); }

int64_t StrictObject::integer(const std::string& key, int64_t fallback, int64_t low, int64_t high) {
  known_.insert(key);
  return object_.integer(key, fallback, low, high);
}

double StrictObject::number(const std::string& key, double fallback, double low, double high) {
  known_.insert(key);
  return object_.number(key, fallback, low, high);
}

double StrictObject::positive(const std::string& key, double fallback, double high) {
  const double value = number(key, fallback, 0, high);
  if (!(value > 0)) reject(key, fmt::format("a number above 0 and at most {}", high));
  return value;
}

bool StrictObject::boolean(const std::string& key, bool fallback) {
  known_.insert(key);
  return object_.boolean(key, fallback);
}

std::string StrictObject::string(const std::string& key, const std::string& fallback) {
  known_.insert(key);
  return object_.string(key, fallback);
}

std::string StrictObject::required_string(const std::string& key) {
  std::string value = string(key, "");
  if (value.empty()) reject(key, "a string that is not empty");
  return value;
}

size_t StrictObject::choice(const std::string& key, size_t fallback, std::span<const std::string> names) {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  const auto found =
      value->is_string() ? std::find(names.begin(), names.end(), value->get<std::string>()) : names.end();
  if (found == names.end()) reject(key, fmt::format("one of {}", fmt::join(names, ", ")));
  return static_cast<size_t>(found - names.begin());
}

std::vector<std::string> StrictObject::strings(const std::string& key, const std::vector<std::string>& fallback) {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  const auto good = [](const json& item) { return item.is_string() && !item.get_ref<const std::string&>().empty(); };
  if (!value->is_array() || !std::all_of(value->begin(), value->end(), good)) reject(key, "a list of strings");
  return value->get<std::vector<std::string>>();
}

std::vector<double> StrictObject::numbers(const std::string& key, const std::vector<double>& fallback, double low,
                                          double high) {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  const auto good = [&](const json& item) {
    return item.is_number() && item.get<double>() >= low && item.get<double>() <= high;
  };
  if (!value->is_array() || !std::all_of(value->begin(), value->end(), good))
    reject(key, fmt::format("a list of numbers from {} to {}", low, high));
  return value->get<std::vector<double>>();
}

void StrictObject::finish() const {
  const std::vector<std::string> known(known_.begin(), known_.end());
  for (const auto& [key, unused] : value_.items()) {
    if (known_.contains(key) || key.starts_with('_')) continue;
    const std::string nearest = nearest_name(key, known);
    fail(ErrorCode::kCorrupt, "{} is no key that is known here; {}", object_.name(key),
         nearest.empty() ? fmt::format("expected {}", fmt::join(known, ", "))
                         : fmt::format("did you mean {}?", nearest));
  }
}

}  // namespace vl2::train

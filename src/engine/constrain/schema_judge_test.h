// For tests only: a judge of JSON schemas that shares nothing with the code under test.
#pragma once

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>

namespace vl2 {

inline size_t characters(const std::string& text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
  return count;
}

inline bool has_type(const nlohmann::json& v, const std::string& type) {
  if (type == "object") return v.is_object();
  if (type == "array") return v.is_array();
  if (type == "string") return v.is_string();
  if (type == "number") return v.is_number();
  if (type == "integer")
    return v.is_number_integer() || (v.is_number() && std::floor(v.get<double>()) == v.get<double>());
  if (type == "boolean") return v.is_boolean();
  return type == "null" && v.is_null();
}

// As the standard has it, keyword by keyword. Empty: valid; else why not.
inline std::string invalid(const nlohmann::json& schema, const nlohmann::json& v, const nlohmann::json& root) {
  if (schema.is_boolean()) return schema.get<bool>() ? "" : "nothing is valid against false";
  for (const auto& [key, arg] : schema.items()) {
    bool good = true;
    if (key == "type") {
      good = arg.is_string() ? has_type(v, arg)
                             : std::any_of(arg.begin(), arg.end(), [&](const auto& t) { return has_type(v, t); });
    } else if (key == "enum") {
      good = std::find(arg.begin(), arg.end(), v) != arg.end();
    } else if (key == "const") {
      good = v == arg;
    } else if (key == "anyOf") {
      good = std::any_of(arg.begin(), arg.end(), [&](const auto& s) { return invalid(s, v, root).empty(); });
    } else if (key == "allOf") {
      good = std::all_of(arg.begin(), arg.end(), [&](const auto& s) { return invalid(s, v, root).empty(); });
    } else if (key == "$ref") {
      good = invalid(root.at(nlohmann::json::json_pointer(arg.get<std::string>().substr(1))), v, root).empty();
    } else if (v.is_object() && key == "required") {
      good = std::all_of(arg.begin(), arg.end(),
                         [&](const auto& name) { return v.contains(name.template get<std::string>()); });
    } else if (v.is_object() && key == "properties") {
      for (const auto& [name, s] : arg.items())
        good = good && (!v.contains(name) || invalid(s, v.at(name), root).empty());
    } else if (v.is_object() && key == "additionalProperties") {
      for (const auto& [name, inner] : v.items())
        if (!schema.contains("properties") || !schema.at("properties").contains(name))
          good = good && invalid(arg, inner, root).empty();
    } else if (v.is_array() && (key == "items" || key == "prefixItems")) {
      const size_t front = schema.contains("prefixItems") ? schema.at("prefixItems").size() : 0;
      for (size_t i = 0; i < v.size(); ++i) {
        if (key == "items" && i >= front) good = good && invalid(arg, v[i], root).empty();
        if (key == "prefixItems" && i < front) good = good && invalid(arg[i], v[i], root).empty();
      }
    } else if (v.is_array() && key == "minItems") {
      good = v.size() >= arg.get<size_t>();
    } else if (v.is_array() && key == "maxItems") {
      good = v.size() <= arg.get<size_t>();
    } else if (v.is_string() && key == "minLength") {
      good = characters(v) >= arg.get<size_t>();
    } else if (v.is_string() && key == "maxLength") {
      good = characters(v) <= arg.get<size_t>();
    } else if (v.is_string() && key == "pattern") {
      good = std::regex_search(v.get<std::string>(), std::regex(arg.get<std::string>()));
    } else if (v.is_number() && key == "minimum") {
      good = v >= arg;
    } else if (v.is_number() && key == "maximum") {
      good = v <= arg;
    } else if (v.is_number() && key == "exclusiveMinimum") {
      good = v > arg;
    } else if (v.is_number() && key == "exclusiveMaximum") {
      good = v < arg;
    }
    if (!good) return key + " " + arg.dump() + " against " + v.dump();
  }
  return "";
}

}  // namespace vl2

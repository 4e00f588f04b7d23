// JSON files nobody vouches for: a parser with limits, and typed access to one object's keys with errors that name
// them.
//
// The JsonObject only looks at a value somebody else owns. Plain functions otherwise; any thread may call them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/error.h"

namespace vl2 {

struct JsonLimits {
  size_t max_bytes = size_t{64} << 20;
  int max_depth = 32;
};

// Strict JSON: no comments, no duplicate keys (which one counts depends on the reader), UTF-8 only. `where` names the
// file in errors. kCorrupt, with the byte where it went wrong.
nlohmann::json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits = {});

// A value for an error message: one line, ASCII, short whatever it holds.
std::string describe_json(const nlohmann::json& value);

// A missing key gives the fallback. An explicit null is a value: only the optional_ functions accept it, as nullopt.
// All failures are kCorrupt and read "FILE: PATH.KEY is VALUE, expected ...".
class JsonObject {
 public:
  JsonObject(const nlohmann::json& value, std::string where, std::string path = "");

  const nlohmann::json* find(const std::string& key) const;  // nullptr: missing
  bool has(const std::string& key) const { return find(key) != nullptr; }

  int64_t integer(const std::string& key, int64_t fallback, int64_t low, int64_t high) const;
  std::optional<int64_t> optional_integer(const std::string& key, std::optional<int64_t> fallback, int64_t low,
                                          int64_t high) const;
  double number(const std::string& key, double fallback, double low, double high) const;  // finite, low <= x <= high
  bool boolean(const std::string& key, bool fallback) const;
  std::string string(const std::string& key, const std::string& fallback) const;

  // "config.json: language_config.hidden_size"
  std::string name(const std::string& key) const;
  const std::string& where() const { return where_; }

  // "NAME is VALUE, expected EXPECTED"
  [[noreturn]] void reject(const std::string& key, const std::string& expected,
                           ErrorCode code = ErrorCode::kCorrupt) const;

 private:
  const nlohmann::json& value_;
  std::string where_;
  std::string path_;
};

}  // namespace vl2

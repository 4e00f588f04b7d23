// One JSON object read strictly: every key that was asked for is known, any other but a "_note" is an error.
#pragma once

#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace vl2::train {

// Borrows the value. Reads as JsonObject does and remembers the keys; finish() last.
class StrictObject {
 public:
  StrictObject(const nlohmann::json& value, std::string where, std::string path = "");

  bool has(const std::string& key);
  int64_t integer(const std::string& key, int64_t fallback, int64_t low, int64_t high);
  double number(const std::string& key, double fallback, double low, double high);
  double positive(const std::string& key, double fallback, double high);  // 0 < x <= high
  bool boolean(const std::string& key, bool fallback);
  std::string string(const std::string& key, const std::string& fallback);
  std::string required_string(const std::string& key);  // not empty
  // One of `names`; the index. kCorrupt with the nearest or all of them.
  size_t choice(const std::string& key, size_t fallback, std::span<const std::string> names);
  std::vector<std::string> strings(const std::string& key, const std::vector<std::string>& fallback);
  std::vector<double> numbers(const std::string& key, const std::vector<double>& fallback, double low, double high);
  const nlohmann::json* find(const std::string& key);  // nullptr: absent
  std::string path_of(const std::string& key) const;   // "data.0.weight"

  [[noreturn]] void reject(const std::string& key, const std::string& expected);

  // kCorrupt for a key nobody asked for.
  void finish() const;

 private:
  const nlohmann::json& value_;
  JsonObject object_;
  std::string path_;
  std::set<std::string> known_;
};

}  // namespace vl2::train

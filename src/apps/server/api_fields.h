// Typed access to the fields of a request. Unknown fields are nobody's business; a null counts as absent; a known field
// with a value it cannot have is an ApiError 400 that names it.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace vl2::server {

// Looks at an object somebody else owns. `path` names it in errors: "messages[0]".
class Fields {
 public:
  explicit Fields(const nlohmann::json& object, std::string path = "");

  const nlohmann::json* find(const std::string& key) const;  // nullptr: absent or null
  std::optional<double> number(const std::string& key, double low, double high) const;
  std::optional<int64_t> integer(const std::string& key, int64_t low, int64_t high) const;  // 5.0 is one, too
  std::optional<bool> boolean(const std::string& key) const;
  std::optional<std::string> string(const std::string& key) const;

  std::string name(const std::string& key) const;
  [[noreturn]] void reject(const std::string& key, const std::string& expected, const std::string& code = "") const;

 private:
  const nlohmann::json& object_;
  std::string path_;
};

}  // namespace vl2::server

// Who may ask: API keys, and the origins of web pages. Immutable once made: any thread.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/server/http_message.h"

namespace vl2::server {

class HttpExchange;

class ApiKeys {
 public:
  explicit ApiKeys(const std::vector<std::string>& keys);  // none: everybody may

  // `Authorization: Bearer KEY` or `x-api-key: KEY`. ApiError 401 otherwise. The time taken does not tell how much of a
  // key was right.
  void check(const HttpHead& head) const;
  bool empty() const { return digests_.empty(); }

 private:
  std::vector<std::string> digests_;
};

// A key a line; empty lines and those that begin with # are left out. kNotFound, kIo, kInvalidArgument: no key in it.
std::vector<std::string> read_key_file(const std::filesystem::path& path);

bool equal_in_constant_time(std::string_view a, std::string_view b);

class Cors {
 public:
  explicit Cors(std::vector<std::string> origins) : origins_(std::move(origins)) {}

  // The headers that let the page of an admitted origin read the reply; none for others.
  void apply(HttpExchange& exchange, std::string_view allowed_methods) const;

 private:
  bool admits(std::string_view origin) const;
  std::vector<std::string> origins_;
};

}  // namespace vl2::server

// Who may ask: API keys, and the origins of web pages. Any thread.
#pragma once

#include <cstddef>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "apps/server/http_message.h"

namespace vl2::server {

class HttpExchange;

class ApiKeys {
 public:
  // KEY or NAME:KEY each, a name being at most 64 letters, digits and -_. and keys without one "key-1", "key-2", by
  // their place. Several keys may have one name. None: everybody may.
  explicit ApiKeys(const std::vector<std::string>& keys);
  void replace(const std::vector<std::string>& keys);  // for requests to come

  // `Authorization: Bearer KEY` or `x-api-key: KEY`: the name of the key, "" where none is needed. ApiError 401
  // otherwise. The time taken does not tell how much of a key was right.
  std::string check(const HttpHead& head) const;
  bool empty() const { return size() == 0; }
  size_t size() const;

 private:
  struct Known {
    std::string name, digest;
  };
  mutable std::mutex mutex_;
  std::vector<Known> known_;
};

// A key, or NAME:KEY, a line; empty lines and those that begin with # are left out. kNotFound, kIo, kInvalidArgument:
// no key in it.
std::vector<std::string> read_key_file(const std::filesystem::path& path);

// Looks at every byte of texts of one length, whatever they hold; the length itself is no secret.
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

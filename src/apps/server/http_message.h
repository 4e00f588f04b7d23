// One HTTP request as the routes see it. Plain data.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vl2::server {

struct HttpHead {
  std::string method;
  std::string path;  // percent-decoded, valid UTF-8, begins with '/'
  std::string query;
  int minor_version = 1;                                     // HTTP/1.x
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  int64_t content_length = 0;
  bool chunked = false;
  bool expects_continue = false;
  bool keep_alive = true;

  size_t bytes = 0;  // of the head itself

  bool has_body() const { return chunked || content_length > 0; }
  std::string_view header(std::string_view lower_case_name) const;  // the first one; empty: none
};

struct HttpLimits {
  size_t head_bytes = size_t{32} << 10;
  size_t headers = 100;
  size_t body_bytes = size_t{64} << 20;
  size_t bodies_bytes = size_t{512} << 20;       // of all requests that are being read or held together
  std::chrono::milliseconds head_time{10'000};   // a whole head, from its first byte
  std::chrono::milliseconds body_time{300'000};  // a whole body
  std::chrono::milliseconds stall_time{30'000};  // without a byte of a body read or a reply written
  std::chrono::milliseconds idle_time{60'000};   // between two requests of a connection
  size_t connections = 256;                      // each has a thread; more are answered 503
};

}  // namespace vl2::server

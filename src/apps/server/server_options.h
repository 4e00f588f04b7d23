// What `vl2 serve` can be told. Plain data.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/server/http_message.h"
#include "apps/server/rate_limit.h"
#include "apps/server/remote_media.h"

namespace vl2::server {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8080;                                // 0: one that is free
  std::vector<std::string> model_ids;             // what requests may name; the first is what replies say
  std::vector<std::string> keys;                  // KEY or NAME:KEY; empty: no key is asked for
  bool behind_proxy = false;                      // one proxy in front says in X-Forwarded-For who asks
  RateLimits rate;                                // of each key, or of each address where there are none
  std::vector<std::string> cors_origins;          // exact origins, "*" (any) or "localhost" (any port of this machine)
  std::vector<std::string> allowed_hosts;         // names this server has besides private ones, where no key is needed
  std::filesystem::path media_path;               // below it, file:// URLs are read; empty: none are
  RemoteMediaOptions remote;                      // http(s):// URLs
  std::chrono::milliseconds remote_time{30'000};  // of all pictures of a request that are fetched
  int64_t remote_bytes = int64_t{512} << 20;      // that fetched pictures of all requests take together

  int64_t parallel = 8;    // answers made at a time
  int64_t max_queue = 64;  // answers waiting for that
  int64_t default_max_tokens = 2048;
  int64_t max_picture_pixels = 100'000'000;      // of all pictures of a request together
  size_t max_pictures = 64;                      // of a request
  int64_t decoders = 2;                          // pictures decoded at a time
  int64_t tile_cache_bytes = int64_t{64} << 20;  // of pictures that were cut up; a 3 x 3 one of a release takes 4.4 MB

  HttpLimits http;
  std::chrono::milliseconds ping_time{10'000};  // of silence in a stream
  std::function<void(std::string_view)> log;    // a line of JSON for each request, from many threads; empty: none
  bool log_prompts = false;                     // and what was asked and answered in it
};

}  // namespace vl2::server

// Pictures of other machines, fetched for a client: what the client names may be an address that only this machine can
// reach, so everything is refused that is not allowed (docs/server.md, docs/decisions/0018-fetching-pictures.md).
//
// Any thread. Several fetches may run at a time; each waits for its server.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/server/public_address.h"

namespace vl2::server {

struct RemoteMediaOptions {
  bool allowed = false;
  // Hosts, or ".example.org" for all below it; empty: every host with a public address.
  std::vector<std::string> domains;
  std::chrono::milliseconds time{10'000};  // of a picture, redirects included
  int redirects = 3;
  size_t bytes = size_t{32} << 20;                                  // of a picture
  std::function<bool(const sockaddr&)> admits = is_public_address;  // the address a name became; tests have their own
  std::filesystem::path certificates;                               // trusted authorities; empty: the system's
};

// The body behind an http(s) URL. ApiError: 403 media_domain_not_allowed (not switched on, not in the list, an address
// that is not public, also after a redirect); 413 request_too_large; 400 invalid_image_url for everything that goes
// wrong on the way; 503 shutting_down when `stopped` says so. `param` names the field in errors.
std::string fetch_remote(std::string_view url, const RemoteMediaOptions& options, const std::string& param,
                         const std::function<bool()>& stopped = {});

}  // namespace vl2::server

// Which addresses of the internet protocol belong to the public internet, and which to this machine, its neighbours or
// its provider. Pure functions: any thread.
#pragma once

#include <sys/socket.h>

#include <string>

namespace vl2::server {

// By IANA's registries of special addresses: false for everything that is not globally reachable, also when an IPv6
// address only wraps an IPv4 one. Of IPv6 only 2000::/3 is in use at all.
bool is_public_address(const sockaddr& address);

// "127.0.0.1", "::1"
std::string address_text(const sockaddr& address);

}  // namespace vl2::server

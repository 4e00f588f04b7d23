// Who is at the other end. Pure functions: any thread.
#pragma once

#include <sys/socket.h>

#include <string>
#include <string_view>

#include "apps/server/http_message.h"

namespace vl2::server {

// "192.0.2.1", "2001:db8::1"; IPv4 in IPv6 as IPv4. "local" for what has no address.
std::string address_text(const sockaddr_storage& address, socklen_t size);

// The client's address: the socket's, or what one trusted proxy says of it. That proxy appends to X-Forwarded-For, so
// its word is the last one; what is no address there is not believed.
std::string client_address(const HttpHead& head, std::string_view peer, bool behind_proxy);

// Whose limits an address has: its own, in IPv6 those of its /64, which is one household or one machine.
std::string address_group(std::string_view address);

}  // namespace vl2::server

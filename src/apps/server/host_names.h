// Names of hosts, in any case. Pure functions: any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vl2::server {

// "example.org", or ".example.org" for all below it.
bool is_listed_host(std::string_view host, const std::vector<std::string>& patterns);

// Whether a Host header names what no stranger's DNS can answer for: an address, a name without a dot, or one below
// localhost, local or internal, with any port. A page of another site whose name was pointed at this server (DNS
// rebinding) shows that site's name here.
bool is_private_host(std::string_view header);

// "example.org:8080" and "[::1]:8080" without port and brackets.
std::string_view without_port(std::string_view header);

}  // namespace vl2::server

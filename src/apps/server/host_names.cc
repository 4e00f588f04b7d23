#include "apps/server/host_names.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>

#include "apps/server/http_head.h"

namespace vl2::server {
namespace {

bool ends_with_ignoring_case(std::string_view text, std::string_view end) {
  return text.size() > end.size() && equal_ignoring_case(text.substr(text.size() - end.size()), end);
}

bool is_address(const std::string& host) {
  in6_addr any = {};
  return ::inet_pton(AF_INET, host.c_str(), &any) == 1 || ::inet_pton(AF_INET6, host.c_str(), &any) == 1;
}

}  // namespace

bool is_listed_host(std::string_view host, const std::vector<std::string>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return pattern.starts_with('.') ? ends_with_ignoring_case(host, pattern) : equal_ignoring_case(host, pattern);
  });
}

bool is_private_host(std::string_view header) {
  const std::string_view host = without_port(header);
  if (host.find('.') == host.npos) return true;
  return ends_with_ignoring_case(host, ".localhost") || ends_with_ignoring_case(host, ".local") ||
         ends_with_ignoring_case(host, ".internal") || is_address(std::string(host));
}

std::string_view without_port(std::string_view header) {
  header = trim(header);
  if (header.starts_with('[')) {
    header = header.substr(1, header.find(']') - 1);
  } else if (header.find(':') == header.rfind(':')) {  // more of them are an address
    header = header.substr(0, header.find(':'));
  }
  if (header.ends_with('.')) header.remove_suffix(1);
  return header;
}

}  // namespace vl2::server

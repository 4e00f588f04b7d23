#include "apps/server/peer.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "apps/server/http_head.h"

namespace vl2::server {
namespace {

constexpr std::string_view kMapped = "::ffff:";

std::string without_mapping(std::string text) {
  if (text.starts_with(kMapped) && text.find('.') != text.npos) text.erase(0, kMapped.size());
  return text;
}

std::optional<in6_addr> parse_v6(const std::string& text) {
  in6_addr address = {};
  if (::inet_pton(AF_INET6, text.c_str(), &address) != 1) return std::nullopt;
  return address;
}

std::string print_v6(const in6_addr& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET6, &address, text.data(), text.size());
  return text.data();
}

// In one spelling; nothing for what is no address.
std::optional<std::string> canonical(std::string_view text) {
  if (text.size() >= 2 && text.front() == '[' && text.back() == ']') text = text.substr(1, text.size() - 2);
  const std::string plain(text);
  in_addr v4 = {};
  if (::inet_pton(AF_INET, plain.c_str(), &v4) == 1) return plain;
  if (const auto v6 = parse_v6(plain)) return without_mapping(print_v6(*v6));
  return std::nullopt;
}

}  // namespace

std::string address_text(const sockaddr_storage& address, socklen_t size) {
  std::array<char, NI_MAXHOST> host{};
  if ((address.ss_family != AF_INET && address.ss_family != AF_INET6) ||
      ::getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host.data(), host.size(), nullptr, 0,
                    NI_NUMERICHOST) != 0)
    return "local";
  return without_mapping(host.data());
}

std::string client_address(const HttpHead& head, std::string_view peer, bool behind_proxy) {
  if (!behind_proxy) return std::string(peer);
  std::string_view last;
  for (const auto& [name, value] : head.headers)
    if (name == "x-forwarded-for") last = value;
  const size_t comma = last.rfind(',');
  if (comma != last.npos) last.remove_prefix(comma + 1);
  return canonical(trim(last)).value_or(std::string(peer));
}

std::string address_group(std::string_view address) {
  auto v6 = parse_v6(std::string(address.substr(0, address.find('%'))));
  if (!v6) return std::string(address);
  std::fill(std::begin(v6->s6_addr) + 8, std::end(v6->s6_addr), uint8_t{0});
  return print_v6(*v6) + "/64";
}

}  // namespace vl2::server

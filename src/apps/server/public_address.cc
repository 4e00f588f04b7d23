#include "apps/server/public_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace vl2::server {
namespace {

struct Block {
  uint32_t prefix;
  int bits;
};

// Not globally reachable (RFC 6890 and what was registered since), multicast and the reserved rest.
constexpr std::array kSpecial4 = {
    Block{0x00000000, 8},   // this network
    Block{0x0a000000, 8},   // private
    Block{0x64400000, 10},  // shared between a provider and its customers
    Block{0x7f000000, 8},   // this machine
    Block{0xa9fe0000, 16},  // link-local; cloud providers keep credentials there
    Block{0xac100000, 12},  // private
    Block{0xc0000000, 24},  // protocol assignments
    Block{0xc0000200, 24},  // documentation
    Block{0xc0586300, 24},  // 6to4 relays
    Block{0xc0a80000, 16},  // private
    Block{0xc6120000, 15},  // benchmarks
    Block{0xc6336400, 24},  // documentation
    Block{0xcb007100, 24},  // documentation
    Block{0xe0000000, 4},   // multicast
    Block{0xf0000000, 4},   // reserved, and broadcast
};

bool is_public4(uint32_t address) {
  return std::none_of(kSpecial4.begin(), kSpecial4.end(),
                      [&](const Block& b) { return (address ^ b.prefix) >> (32 - b.bits) == 0; });
}

uint32_t word(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | uint32_t{bytes[3]};
}

bool is_public6(const in6_addr& address) {
  const uint8_t* bytes = address.s6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&address)) return is_public4(word(bytes + 12));
  const uint32_t high = word(bytes);
  if (high >> 29 != 1) return false;               // outside of 2000::/3
  if (high >> 9 == 0x20010000 >> 9) return false;  // 2001::/23, Teredo among them
  if (high == 0x20010db8) return false;            // documentation
  if (high >> 16 == 0x2002) return false;          // 6to4 leads to any IPv4 address
  return high >> 12 != 0x3fff0;                    // documentation
}

}  // namespace

bool is_public_address(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    sockaddr_in in = {};
    std::memcpy(&in, &address, sizeof(in));
    return is_public4(ntohl(in.sin_addr.s_addr));
  }
  if (address.sa_family == AF_INET6) {
    sockaddr_in6 in = {};
    std::memcpy(&in, &address, sizeof(in));
    return is_public6(in.sin6_addr);
  }
  return false;
}

std::string address_text(const sockaddr& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.sa_family == AF_INET) {
    sockaddr_in in = {};
    std::memcpy(&in, &address, sizeof(in));
    ::inet_ntop(AF_INET, &in.sin_addr, text.data(), text.size());
  } else if (address.sa_family == AF_INET6) {
    sockaddr_in6 in = {};
    std::memcpy(&in, &address, sizeof(in));
    ::inet_ntop(AF_INET6, &in.sin6_addr, text.data(), text.size());
  }
  return text.data();
}

}  // namespace vl2::server

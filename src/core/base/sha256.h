// SHA-256: nobody can make two contents with the same digest, so equal digests stand for equal contents, also of bytes
// from outside. About 1.5 GB/s where the processor has instructions for it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>

namespace vl2 {

struct Digest {
  std::array<std::byte, 32> bytes{};
  friend bool operator==(const Digest&, const Digest&) = default;
};

Digest sha256(std::span<const std::byte> bytes);

}  // namespace vl2

// Its bits are as good as random.
template <>
struct std::hash<vl2::Digest> {
  size_t operator()(const vl2::Digest& digest) const noexcept {
    size_t value = 0;
    std::memcpy(&value, digest.bytes.data(), sizeof value);
    return value;
  }
};

// For tests only: pictures made by formula, and hashes of pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/file.h"
#include "core/image/image.h"

namespace vl2 {

// The top byte of splitmix64(fnv1a64(name) + i): the noise every golden picture of this kind is made of.
inline Image noise_image(std::string_view name, int64_t width, int64_t height) {
  uint64_t state = 0xcbf29ce484222325;
  for (const char c : name) state = (state ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  Image image = make_image(width, height, 0, 0, 0);
  for (uint8_t& value : image.rgb) {
    uint64_t z = state++ + 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    value = static_cast<uint8_t>((z ^ (z >> 31)) >> 56);
  }
  return image;
}

inline std::string pixel_sha256(std::span<const uint8_t> pixels) { return sha256_hex(std::as_bytes(pixels)); }

}  // namespace vl2

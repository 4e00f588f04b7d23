// For tests only: pictures made by formula, and hashes of pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/file.h"
#include "core/base/random.h"
#include "core/image/image.h"

namespace vl2 {

// The top byte of splitmix64(fnv1a64(name) + i): the noise every golden picture of this kind is made of.
inline Image noise_image(std::string_view name, int64_t width, int64_t height) {
  Image image = make_image(width, height, 0, 0, 0);
  const uint64_t start = fnv1a64(name);
  for (size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = static_cast<uint8_t>(splitmix64(start + i) >> 56);
  return image;
}

inline std::string pixel_sha256(std::span<const uint8_t> pixels) { return sha256_hex(std::as_bytes(pixels)); }

}  // namespace vl2

// A decoded picture: 8-bit RGB, rows top to bottom without padding. Owns its pixels; copies are deep.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vl2 {

struct ImageSize {
  int64_t width = 0;
  int64_t height = 0;
  bool operator==(const ImageSize&) const = default;
};

struct Image {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> rgb;  // [height][width][3]

  size_t row_bytes() const { return static_cast<size_t>(width) * 3; }
  uint8_t* row(int64_t y) { return rgb.data() + static_cast<size_t>(y) * row_bytes(); }
  const uint8_t* row(int64_t y) const { return rgb.data() + static_cast<size_t>(y) * row_bytes(); }
};

// A picture of one colour. VL2_CHECKs the size: limits belong to whoever knows where the numbers came from.
Image make_image(int64_t width, int64_t height, uint8_t red, uint8_t green, uint8_t blue);

// VL2_CHECKs that the sides are positive and that rgb holds exactly width x height pixels.
void check_image(const Image& image);

}  // namespace vl2

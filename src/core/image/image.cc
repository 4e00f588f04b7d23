#include "core/image/image.h"

#include "core/base/error.h"

namespace vl2 {
namespace {

constexpr int64_t kMaxSide =
    int64_t{1} << 30;  // of any picture that can exist; keeps width x height x 3 inside 64 bits

}  // namespace

Image make_image(int64_t width, int64_t height, uint8_t red, uint8_t green, uint8_t blue) {
  VL2_CHECK(width > 0 && height > 0 && width <= kMaxSide && height <= kMaxSide, "picture of {} x {} pixels", width,
            height);
  Image image{width, height, std::vector<uint8_t>(static_cast<size_t>(width) * static_cast<size_t>(height) * 3)};
  if (red == green && green == blue) {
    image.rgb.assign(image.rgb.size(), red);
    return image;
  }
  for (size_t i = 0; i < image.rgb.size(); i += 3) {
    image.rgb[i] = red;
    image.rgb[i + 1] = green;
    image.rgb[i + 2] = blue;
  }
  return image;
}

void check_image(const Image& image) {
  VL2_CHECK(image.width > 0 && image.height > 0 && image.width <= kMaxSide && image.height <= kMaxSide &&
                image.rgb.size() == static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3,
            "picture of {} x {} pixels with {} bytes", image.width, image.height, image.rgb.size());
}

}  // namespace vl2

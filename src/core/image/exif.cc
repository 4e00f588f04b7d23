// EXIF orientation: the one tag of EXIF that changes what a picture shows.
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "core/image/decoders.h"

namespace vl2 {
namespace {

constexpr uint16_t kOrientationTag = 0x0112;
constexpr uint16_t kTypeShort = 3;

// Bounds-checked integers of a TIFF block.
class TiffReader {
 public:
  TiffReader(std::span<const std::byte> bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}

  std::optional<uint32_t> read(size_t offset, size_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) return std::nullopt;
    uint32_t value = 0;
    for (size_t i = 0; i < size; ++i) {
      const size_t at = big_endian_ ? i : size - 1 - i;
      value = value << 8 | static_cast<uint32_t>(bytes_[offset + at]);
    }
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
  bool big_endian_;
};

int tiff_orientation(std::span<const std::byte> tiff) {
  if (tiff.size() < 8) return 1;
  const std::string_view order(reinterpret_cast<const char*>(tiff.data()), 2);
  if (order != "II" && order != "MM") return 1;
  const TiffReader reader(tiff, order == "MM");
  if (reader.read(2, 2) != 42u) return 1;
  const size_t directory = *reader.read(4, 4);
  const uint32_t entries = reader.read(directory, 2).value_or(0);
  for (uint32_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + size_t{12} * i;
    const auto tag = reader.read(entry, 2);
    if (!tag) return 1;
    if (*tag != kOrientationTag) continue;
    if (reader.read(entry + 2, 2) != kTypeShort || reader.read(entry + 4, 4) != 1u) return 1;
    const uint32_t value = reader.read(entry + 8, 2).value_or(1);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace

int jpeg_exif_orientation(std::span<const std::byte> jpeg) {
  constexpr std::string_view kExif("Exif\0\0", 6);
  size_t at = 2;  // after SOI
  while (at + 4 <= jpeg.size() && jpeg[at] == std::byte{0xFF}) {
    const auto marker = static_cast<uint8_t>(jpeg[at + 1]);
    if (marker == 0xFF) {  // fill byte
      ++at;
      continue;
    }
    if (marker == 0xDA || marker == 0xD9) return 1;              // scan data, end
    if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD7)) {  // markers without a length
      at += 2;
      continue;
    }
    const size_t length = static_cast<size_t>(jpeg[at + 2]) << 8 | static_cast<size_t>(jpeg[at + 3]);
    if (length < 2 || length > jpeg.size() - at - 2) return 1;
    const auto body = jpeg.subspan(at + 4, length - 2);
    if (marker == 0xE1 && body.size() >= kExif.size() && std::memcmp(body.data(), kExif.data(), kExif.size()) == 0)
      return tiff_orientation(body.subspan(kExif.size()));
    at += 2 + length;
  }
  return 1;
}

Image apply_orientation(Image image, int orientation) {
  VL2_CHECK(orientation >= 1 && orientation <= 8, "orientation {}", orientation);
  if (orientation == 1) return image;
  const bool swaps_sides = orientation >= 5;
  Image out = make_image(swaps_sides ? image.height : image.width, swaps_sides ? image.width : image.height, 0, 0, 0);
  // Where (0, 0) of the result lies in the source, and the source step for one pixel right and one row down.
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  int64_t step_right = from_right ? -1 : 1;
  int64_t step_down = from_bottom ? -image.width : image.width;
  int64_t row_start = (from_right ? image.width - 1 : 0) + (from_bottom ? (image.height - 1) * image.width : 0);
  if (swaps_sides) std::swap(step_right, step_down);
  uint8_t* to = out.rgb.data();
  for (int64_t y = 0; y < out.height; ++y, row_start += step_down) {
    int64_t from = row_start;
    for (int64_t x = 0; x < out.width; ++x, from += step_right, to += 3)
      std::memcpy(to, image.rgb.data() + from * 3, 3);
  }
  return out;
}

}  // namespace vl2

// The decoders behind decode_image(), one file per format. Private to this folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/image/decode.h"
#include "core/image/image.h"

namespace vl2 {

struct DecodeRequest {
  std::span<const std::byte> bytes;
  const std::string& where;
  const DecodeOptions& options;
  bool size_only = false;  // the headers are enough: no pixels

  bool wants_alpha() const { return options.background.has_value(); }
  const uint8_t* data() const { return reinterpret_cast<const uint8_t*>(bytes.data()); }
};

struct DecodedImage {
  Image image;
  std::vector<uint8_t> alpha;  // [height][width], only if asked for and the file has one; empty: opaque
  int orientation = 1;         // EXIF, 1 to 8
};

DecodedImage decode_jpeg(const DecodeRequest& request);
DecodedImage decode_png(const DecodeRequest& request);
DecodedImage decode_webp(const DecodeRequest& request);
DecodedImage decode_bmp(const DecodeRequest& request);
DecodedImage decode_gif(const DecodeRequest& request);

// Throws kInvalidArgument for a size that is zero or above max_pixels: call it before anything is allocated.
void check_decoded_size(const DecodeRequest& request, std::string_view format, int64_t width, int64_t height);

// kCorrupt: what the file is, what is wrong with it.
[[noreturn]] void fail_corrupt(const DecodeRequest& request, std::string_view format, std::string_view problem);

// Orientation tag of the first EXIF segment before the scan data; 1 where there is none or it makes no sense.
int jpeg_exif_orientation(std::span<const std::byte> jpeg);

// The picture as it is to be seen: orientation 1 to 8 as EXIF defines them.
Image apply_orientation(Image image, int orientation);

}  // namespace vl2

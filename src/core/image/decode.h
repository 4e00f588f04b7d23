// Bytes of a picture file -> 8-bit RGB, with the reference's semantics: what Pillow 9.4's Image.open(p).convert("RGB")
// gives.
//
// JPEG, PNG, WebP, BMP and GIF, told apart by their first bytes. By default alpha is dropped (hidden colours show),
// gamma, colour profiles and EXIF orientation are ignored, and of an animation the first frame is taken. 16-bit grey is
// clipped to 255, other 16-bit samples keep their high byte. The bytes are hostile: sizes are checked before pixels are
// allocated, and JPEG and PNG rows are appended as they are decoded, so that a header that lies costs little. Pure
// functions: any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "core/image/image.h"

namespace vl2 {

struct DecodeOptions {
  // Largest width x height. The default is where Pillow refuses a "decompression bomb": twice its MAX_IMAGE_PIXELS.
  // Decoding takes 3 bytes a pixel, a progressive JPEG up to 9; a server that takes pictures from strangers wants less.
  int64_t max_pixels = 178'956'970;
  bool auto_orient = false;  // turn a JPEG as its EXIF orientation says
  // Composite transparent pixels over this colour, instead of dropping the alpha channel.
  std::optional<std::array<uint8_t, 3>> background = std::nullopt;
};

// `where` names the picture in errors (a path, "image 2 of the request"). Errors: kInvalidArgument too large or no
// picture, kCorrupt damaged or truncated, kUnsupported a kind of file we do not read, kOutOfMemory.
Image decode_image(std::span<const std::byte> bytes, const std::string& where, const DecodeOptions& options = {});

// The same from a file; also kNotFound and kIo.
Image load_image(const std::filesystem::path& path, const DecodeOptions& options = {});

// The sides of the picture that decode_image() would give, from the headers alone: no pixel is decoded, so damage
// behind them goes unseen. Errors as above.
ImageSize probe_image(std::span<const std::byte> bytes, const std::string& where, const DecodeOptions& options = {});
ImageSize probe_image(const std::filesystem::path& path, const DecodeOptions& options = {});

}  // namespace vl2

#include "core/image/decode.h"

#include <algorithm>
#include <array>
#include <new>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/mapped_file.h"
#include "core/image/decoders.h"

namespace vl2 {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kReadable = "JPEG, PNG, WebP, BMP or GIF";

struct Format {
  std::string_view name;
  size_t offset;
  std::string_view magic;
  DecodedImage (*decode)(const DecodeRequest&);  // nullptr: known by name only
};

constexpr std::array kFormats = {
    Format{"JPEG", 0, "\xFF\xD8\xFF"sv, decode_jpeg},
    Format{"PNG", 0, "\x89PNG\r\n\x1A\n"sv, decode_png},
    Format{"WebP", 8, "WEBPVP8"sv, decode_webp},
    Format{"BMP", 0, "BM"sv, decode_bmp},
    Format{"GIF", 0, "GIF87a"sv, decode_gif},
    Format{"GIF", 0, "GIF89a"sv, decode_gif},
    Format{"AVIF", 4, "ftypavif"sv, nullptr},
    Format{"HEIC", 4, "ftyphei"sv, nullptr},
    Format{"HEIC", 4, "ftypmif1"sv, nullptr},
    Format{"TIFF", 0, "II*\0"sv, nullptr},
    Format{"TIFF", 0, "MM\0*"sv, nullptr},
    Format{"JPEG 2000", 4, "jP  "sv, nullptr},
    Format{"JPEG XL", 0, "\xFF\x0A"sv, nullptr},
    Format{"JPEG XL", 4, "JXL "sv, nullptr},
    Format{"PDF", 0, "%PDF"sv, nullptr},
    Format{"SVG", 0, "<svg"sv, nullptr},
    Format{"XML or SVG", 0, "<?xml"sv, nullptr},
    Format{"HTML", 0, "<!DOCTYPE html"sv, nullptr},
    Format{"HTML", 0, "<html"sv, nullptr},
};

const Format* find_format(std::string_view bytes) {
  for (const Format& format : kFormats) {
    if (bytes.size() > format.offset && bytes.substr(format.offset, format.magic.size()) == format.magic)
      return &format;
  }
  return nullptr;
}

void composite_over(Image& image, const std::vector<uint8_t>& alpha, const std::array<uint8_t, 3>& background) {
  for (size_t i = 0; i < alpha.size(); ++i) {
    const int a = alpha[i];
    for (size_t c = 0; c < 3; ++c) {
      uint8_t& value = image.rgb[i * 3 + c];
      value = static_cast<uint8_t>((value * a + background[c] * (255 - a) + 127) / 255);
    }
  }
}

}  // namespace

void check_decoded_size(const DecodeRequest& request, std::string_view format, int64_t width, int64_t height) {
  constexpr int64_t kMaxSide = int64_t{1} << 31;  // of any header; keeps the product below in range
  if (width <= 0 || height <= 0)
    fail(ErrorCode::kInvalidArgument,
         "{}: {} of {} x {} pixels: nothing to see; send a picture with two positive sides", request.where, format,
         width, height);
  if (width > kMaxSide || height > kMaxSide || width * height > request.options.max_pixels)
    fail(ErrorCode::kInvalidArgument,
         "{}: {} of {} x {} pixels is above the limit of {} pixels; scale the picture down or raise the limit",
         request.where, format, width, height, request.options.max_pixels);
}

void fail_corrupt(const DecodeRequest& request, std::string_view format, std::string_view problem) {
  fail(ErrorCode::kCorrupt, "{}: damaged {} file of {} bytes: {}; send it again or save it anew", request.where, format,
       request.bytes.size(), problem);
}

namespace {

const Format& known_format(std::span<const std::byte> bytes, const std::string& where) {
  if (bytes.empty()) fail(ErrorCode::kInvalidArgument, "{}: empty, expected a {} file", where, kReadable);
  const Format* format = find_format({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (format == nullptr) {
    std::string start;
    for (const std::byte b : bytes.first(std::min<size_t>(bytes.size(), 8)))
      start += fmt::format("{}{:02x}", start.empty() ? "" : " ", static_cast<int>(b));
    fail(ErrorCode::kInvalidArgument, "{}: not a picture we know: {} bytes that start with {}; expected {}", where,
         bytes.size(), start, kReadable);
  }
  if (format->decode == nullptr)
    fail(ErrorCode::kUnsupported, "{}: a {} file; convert it to {}", where, format->name, kReadable);
  return *format;
}

}  // namespace

Image decode_image(std::span<const std::byte> bytes, const std::string& where, const DecodeOptions& options) {
  const Format& format = known_format(bytes, where);
  try {
    DecodedImage decoded = format.decode({bytes, where, options});
    check_image(decoded.image);
    if (options.background && !decoded.alpha.empty()) {
      VL2_CHECK(decoded.alpha.size() * 3 == decoded.image.rgb.size());
      composite_over(decoded.image, decoded.alpha, *options.background);
    }
    if (options.auto_orient) return apply_orientation(std::move(decoded.image), decoded.orientation);
    return std::move(decoded.image);
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::kOutOfMemory, "{}: not enough memory to decode this {} file; scale the picture down", where,
         format.name);
  }
}

Image load_image(const std::filesystem::path& path, const DecodeOptions& options) {
  const std::string bytes = read_file(path);
  return decode_image(std::as_bytes(std::span(bytes)), path.string(), options);
}

ImageSize probe_image(std::span<const std::byte> bytes, const std::string& where, const DecodeOptions& options) {
  constexpr int kFirstOnItsSide = 5;  // of EXIF's orientations
  const DecodedImage decoded = known_format(bytes, where).decode({bytes, where, options, true});
  const bool turned = options.auto_orient && decoded.orientation >= kFirstOnItsSide;
  if (turned) return {decoded.image.height, decoded.image.width};
  return {decoded.image.width, decoded.image.height};
}

ImageSize probe_image(const std::filesystem::path& path, const DecodeOptions& options) {
  const MappedFile file(path);  // only the pages that are looked at are read
  return probe_image(file.bytes(), path.string(), options);
}

}  // namespace vl2

#include "train/input/picture_source.h"

#include <optional>
#include <span>
#include <string_view>

#include "core/base/base64.h"
#include "core/base/error.h"

namespace vl2::train {
namespace {

constexpr std::string_view kData = "data:";
constexpr const char* kDataName = "a data: URI";

// nullopt: a path.
std::optional<std::string> inline_bytes(std::string_view source) {
  if (!source.starts_with(kData)) return std::nullopt;
  const size_t comma = source.find(',');
  const std::string_view header = source.substr(0, comma);
  if (comma == source.npos || !header.ends_with(";base64"))
    fail(ErrorCode::kInvalidArgument, "{} that begins with {}, expected data:image/...;base64,...", kDataName,
         source.substr(0, 40));
  std::optional<std::string> bytes = decode_base64(source.substr(comma + 1));
  if (!bytes) fail(ErrorCode::kInvalidArgument, "{} that is not base64", kDataName);
  return bytes;
}

}  // namespace

ImageSize probe_picture(const std::string& source, const DecodeOptions& options) {
  if (const auto bytes = inline_bytes(source)) return probe_image(std::as_bytes(std::span(*bytes)), kDataName, options);
  return probe_image(std::filesystem::path(source), options);
}

Image load_picture(const std::string& source, const DecodeOptions& options) {
  if (const auto bytes = inline_bytes(source))
    return decode_image(std::as_bytes(std::span(*bytes)), kDataName, options);
  return load_image(source, options);
}

}  // namespace vl2::train

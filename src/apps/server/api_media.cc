#include "apps/server/api_media.h"

#include <algorithm>
#include <optional>

#include "apps/server/api_error.h"
#include "apps/server/http_head.h"
#include "core/base/base64.h"
#include "core/base/file.h"

namespace vl2::server {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostFileBytes = size_t{64} << 20;
constexpr size_t kLongestScheme = 32;

[[noreturn]] void bad_url(const std::string& why, const std::string& param) {
  throw ApiError(400, fmt::format("{}: {}", param, why), "invalid_image_url", param);
}

std::string decode(std::string_view text, const std::string& param) {
  const std::optional<std::string> bytes = decode_base64(text);
  if (!bytes) bad_url("this is no base64", param);
  if (bytes->empty()) bad_url("the picture has no bytes", param);
  return *bytes;
}

std::string from_data_url(std::string_view url, const std::string& param) {
  const size_t comma = url.find(',');
  if (comma == url.npos) bad_url("a data: URL needs a comma before its data", param);
  constexpr std::string_view kEnd = ";base64";
  const std::string_view kind = trim(url.substr(0, comma));
  if (kind.size() < kEnd.size() || !equal_ignoring_case(kind.substr(kind.size() - kEnd.size()), kEnd))
    bad_url("only base64 data: URLs are read, \"data:image/png;base64,...\"", param);
  return decode(url.substr(comma + 1), param);
}

// One answer for everything that is not there or not ours to show: a client learns nothing about other files.
[[noreturn]] void not_below(const std::string& param) {
  throw ApiError(403, param + ": this is no file below the server's --media-path", "media_domain_not_allowed", param);
}

std::string from_file(std::string_view rest, const fs::path& media_path, const std::string& param) {
  if (media_path.empty())
    throw ApiError(403, param + ": files are read only when the server is started with --media-path",
                   "media_domain_not_allowed", param);
  if (rest.starts_with("localhost/")) rest.remove_prefix(9);
  if (!rest.starts_with('/')) bad_url("expected file:///path", param);
  std::string decoded;
  try {
    decoded = percent_decode(rest);
  } catch (const ApiError&) {
    bad_url("a broken percent escape", param);
  }
  if (decoded.find('\0') != decoded.npos) bad_url("a NUL in a path", param);
  std::error_code failed;
  const fs::path root = fs::canonical(media_path, failed);
  if (failed) not_below(param);
  const fs::path path = fs::canonical(decoded, failed);  // links followed, and .. gone
  if (failed || !fs::is_regular_file(path, failed)) not_below(param);
  const auto [end, inside] = std::mismatch(root.begin(), root.end(), path.begin(), path.end());
  if (end != root.end()) not_below(param);
  try {
    return read_unmoved_file(path, kMostFileBytes);
  } catch (const Error&) {
    not_below(param);
  }
}

bool has_scheme(std::string_view url, std::string_view scheme) {
  return url.size() >= scheme.size() && equal_ignoring_case(url.substr(0, scheme.size()), scheme);
}

}  // namespace

std::string load_media(std::string_view url, const fs::path& media_path, const std::string& param,
                       const std::function<std::string(std::string_view url)>& fetch) {
  url = trim(url);
  if (has_scheme(url, "data:")) return from_data_url(url, param);
  if (has_scheme(url, "http:") || has_scheme(url, "https:")) return fetch(url);
  if (has_scheme(url, "file://")) return from_file(url.substr(7), media_path, param);
  if (url.substr(0, kLongestScheme).find(':') != url.npos)
    bad_url("expected a data: URL, base64, http(s)://, or file:// below the server's --media-path", param);
  return decode(url, param);
}

}  // namespace vl2::server

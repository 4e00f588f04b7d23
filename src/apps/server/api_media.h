// From what a client writes in place of a picture to the bytes of a file. Any thread.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace vl2::server {

// A data: URL (base64 in either alphabet, white space and missing padding forgiven), bare base64, file:// below
// `media_path`, or http(s), which is `fetch`'s business. `param` names the field in errors. ApiError: 400
// invalid_image_url; 403 media_domain_not_allowed for files outside of the path or without one; what `fetch` throws.
std::string load_media(std::string_view url, const std::filesystem::path& media_path, const std::string& param,
                       const std::function<std::string(std::string_view url)>& fetch);

}  // namespace vl2::server

// From what a client writes in place of a picture to the bytes of a file. Any thread.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace vl2::server {

// A data: URL (base64 in either alphabet, white space and missing padding forgiven), bare base64, or file:// below
// `media_path`. `param` names the field in errors. ApiError: 400 invalid_image_url; 403 media_domain_not_allowed for
// http(s), and for files outside of the path or without one.
std::string load_media(std::string_view url, const std::filesystem::path& media_path, const std::string& param);

}  // namespace vl2::server

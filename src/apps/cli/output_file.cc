#include "apps/cli/output_file.h"

#include <stdlib.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstring>
#include <string>

#include "core/base/error.h"

namespace vl2::cli {

void check_writable(const std::filesystem::path& file) {
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(file, ignored);
  if (std::filesystem::is_directory(status))
    fail(ErrorCode::kInvalidArgument, "{}: is a folder; name a file to write", file.string());
  // Files are written beside their place and renamed, which would replace a device.
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    fail(ErrorCode::kInvalidArgument, "{}: is no ordinary file; name one to write", file.string());
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
  std::string probe = (folder / ".vl2_XXXXXX").string();
  const int fd = ::mkstemp(probe.data());
  if (fd < 0)
    fail(ErrorCode::kIo, "{}: cannot write into {}: {}; choose a folder you may write to", file.string(),
         folder.string(), std::strerror(errno));
  ::close(fd);
  ::unlink(probe.c_str());
}

void check_writable_picture(const std::filesystem::path& file) {
  std::string extension = file.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (extension != ".png" && extension != ".jpg" && extension != ".jpeg")
    fail(ErrorCode::kInvalidArgument, "{}: end the name in .png, .jpg or .jpeg", file.string());
  check_writable(file);
}

}  // namespace vl2::cli

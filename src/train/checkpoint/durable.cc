#include "train/checkpoint/durable.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/base/error.h"

namespace vl2::train {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void io_error(const fs::path& path, const char* what, int error) {
  fail(ErrorCode::kIo, "{}: cannot {}: {}; choose a folder you may write to that has space", path.string(), what,
       std::strerror(error));
}

void sync(const fs::path& path, int flags) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  if (fd < 0) io_error(path, "open", errno);
  const int result = ::fsync(fd), error = errno;
  ::close(fd);
  if (result != 0) io_error(path, "bring it to disk", error);
}

}  // namespace

FolderGuard::~FolderGuard() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) io_error(folder, "create the folder", error.value());
}

void sync_folder(const fs::path& folder) { sync(folder, O_DIRECTORY); }

void sync_files(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file()) sync(entry.path(), 0);
  sync_folder(folder);
}

void put_in_place(const fs::path& hidden, const fs::path& target) {
  std::error_code ignored;
  if (!fs::exists(target, ignored)) {
    if (::rename(hidden.c_str(), target.c_str()) != 0) io_error(target, "create the folder", errno);
    return;
  }
  if (::renameat2(AT_FDCWD, hidden.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) return;
  // Some network file systems cannot exchange: for a moment neither is there, and an older one is what a stop leaves.
  if (errno != EINVAL && errno != ENOSYS) io_error(target, "replace the folder", errno);
  fs::path old = hidden;
  old += "-old";
  if (::rename(target.c_str(), old.c_str()) != 0 || ::rename(hidden.c_str(), target.c_str()) != 0)
    io_error(target, "replace the folder", errno);
  fs::remove_all(old, ignored);
}

}  // namespace vl2::train

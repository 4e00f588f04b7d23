#include "train/checkpoint/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/base/error.h"

namespace vl2::train {

RunLock::RunLock(const std::filesystem::path& folder)
    : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (fd_ < 0) fail(ErrorCode::kIo, "{}: cannot be opened: {}", folder.string(), std::strerror(errno));
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int error = errno;
  ::close(fd_);
  if (error == EWOULDBLOCK)
    fail(ErrorCode::kInvalidArgument, "{}: another run is writing there; wait for it, or choose another output folder",
         folder.string());
  // A file system without locks: the run is as safe as it was before there were any.
  fd_ = -1;
}

RunLock::~RunLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace vl2::train

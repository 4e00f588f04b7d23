#include "apps/server/log_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "core/base/error.h"

namespace vl2::server {
namespace {

constexpr mode_t kMode = 0640;  // addresses, and prompts if they are logged, are not for everybody

}  // namespace

LogFile::LogFile(std::filesystem::path path) : path_(std::move(path)), descriptor_(open()) {}

LogFile::~LogFile() { ::close(descriptor_); }

int LogFile::open() const {
  const int descriptor = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, kMode);
  if (descriptor < 0) fail(ErrorCode::kIo, "cannot write the log {}: {}", path_.string(), std::strerror(errno));
  return descriptor;
}

void LogFile::write(std::string_view line) {
  std::string whole(line);
  whole += '\n';
  std::string_view rest = whole;
  const std::lock_guard lock(mutex_);
  while (!rest.empty()) {
    const ssize_t count = ::write(descriptor_, rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      ++lost_;
      return;
    }
    rest.remove_prefix(static_cast<size_t>(count));
  }
}

void LogFile::reopen() {
  const int descriptor = open();
  const std::lock_guard lock(mutex_);
  ::close(std::exchange(descriptor_, descriptor));
}

int64_t LogFile::lost() const {
  const std::lock_guard lock(mutex_);
  return lost_;
}

}  // namespace vl2::server

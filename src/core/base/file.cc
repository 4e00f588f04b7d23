#include "core/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/sha256.h"

namespace vl2 {
namespace {

// Closes and, unless kept, removes the temporary file.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& target)
      : target_(target), path_(target.string() + fmt::format(".tmp{}", ::getpid())) {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd_ < 0) io_error("cannot create");
  }
  ~TemporaryFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!kept_) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  // In pieces that begin at multiples of their size: the page cache then holds a large file in huge pages, and whoever
  // maps it next does so by them. By small ones a virtual machine read a model of 8 GiB four times as slowly.
  void write(std::span<const std::byte> bytes) {
    constexpr size_t kPiece = size_t{4} << 20;
    while (!bytes.empty()) {
      const size_t n = std::min(bytes.size(), kPiece - piece_.size());
      piece_.insert(piece_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
      if (piece_.size() == kPiece) flush();
      bytes = bytes.subspan(n);
    }
  }

  void keep() {
    flush();
    if (::fsync(fd_) != 0) io_error("cannot write");
    if (::close(std::exchange(fd_, -1)) != 0) io_error("cannot write");
    if (::rename(path_.c_str(), target_.c_str()) != 0) io_error("cannot replace");
    kept_ = true;
  }

 private:
  void flush() {
    std::span<const std::byte> bytes = piece_;
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) io_error("cannot write");
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
    piece_.clear();
  }

  [[noreturn]] void io_error(const char* what) const {
    const int error = errno;
    fail(ErrorCode::kIo, "{}: {}: {}; choose a folder you may write to that has space", target_.string(), what,
         std::strerror(error));
  }

  std::filesystem::path target_;
  std::string path_;
  int fd_ = -1;
  bool kept_ = false;
  std::vector<std::byte> piece_;  // not written yet
};

class OpenFile {
 public:
  OpenFile(const std::filesystem::path& path, int flags) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags)) {
    if (fd_ < 0)
      fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: cannot open: {}", path.string(),
           std::strerror(errno));
  }
  ~OpenFile() { ::close(fd_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

std::string read_all(int fd, const std::filesystem::path& path, size_t max_bytes) {
  std::string bytes;
  struct stat info {};  // of a pipe it says 0
  if (::fstat(fd, &info) == 0 && info.st_size > 0)
    bytes.reserve(std::min(static_cast<size_t>(info.st_size), max_bytes));
  std::array<char, 1 << 16> buffer;
  while (true) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ErrorCode::kIo, "{}: cannot read: {}", path.string(), std::strerror(errno));
    if (n == 0) return bytes;
    if (bytes.size() + static_cast<size_t>(n) > max_bytes)
      fail(ErrorCode::kInvalidArgument, "{}: larger than the limit of {} bytes", path.string(), max_bytes);
    bytes.append(buffer.data(), static_cast<size_t>(n));
  }
}

}  // namespace

std::string read_file(const std::filesystem::path& path, size_t max_bytes) {
  return read_all(OpenFile(path, 0).fd(), path, max_bytes);
}

std::string read_unmoved_file(const std::filesystem::path& canonical, size_t max_bytes) {
  const OpenFile file(canonical, O_NOFOLLOW | O_NONBLOCK);  // a pipe that stands there now must not make it wait
  struct stat info {};
  std::error_code failed;
  const auto place = std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", file.fd()), failed);
  if (failed || place != canonical || ::fstat(file.fd(), &info) != 0 || !S_ISREG(info.st_mode))
    fail(ErrorCode::kIo, "{}: no plain file of this path", canonical.string());
  return read_all(file.fd(), canonical, max_bytes);
}

void write_file_atomic(const std::filesystem::path& path, const std::function<void(const ByteSink&)>& write) {
  TemporaryFile file(path);
  write([&file](std::span<const std::byte> bytes) { file.write(bytes); });
  file.keep();
}

void write_file_atomic(const std::filesystem::path& path, std::string_view bytes) {
  write_file_atomic(path, [bytes](const ByteSink& sink) { sink(std::as_bytes(std::span(bytes))); });
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : sha256(bytes).bytes) text += fmt::format("{:02x}", std::to_integer<int>(byte));
  return text;
}

}  // namespace vl2

#include "apps/cli/terminal.h"

#include <fcntl.h>
#include <langinfo.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <clocale>
#include <cstring>
#include <iostream>

#include "core/base/error.h"

namespace vl2::cli {
namespace {

// 0, or the error that stopped it.
int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return 0;
}

}  // namespace

void prepare_streams() {
  // Opened the wrong way round, so that using one is the error it should be.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) < 0) ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  ::signal(SIGPIPE, SIG_IGN);
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(::nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
  std::ios::sync_with_stdio(false);
}

bool stdin_is_terminal() { return ::isatty(STDIN_FILENO) == 1; }
bool stdout_is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }
bool stderr_is_terminal() { return ::isatty(STDERR_FILENO) == 1; }

void write_stdout(std::string_view text) {
  const int error = write_all(STDOUT_FILENO, text);
  if (error == EPIPE) throw StdoutClosed();
  if (error != 0) fail(ErrorCode::kIo, "cannot write to stdout: {}", std::strerror(error));
}

void write_stderr(std::string_view text) { (void)write_all(STDERR_FILENO, text); }

std::string printable(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool c1 = c == 0xc2 && i + 1 < text.size() && (static_cast<unsigned char>(text[i + 1]) & 0xe0u) == 0x80u;
    if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f || c1) {
      result += "\uFFFD";
      if (c1) ++i;
    } else {
      result += text[i];
    }
  }
  return result;
}

std::string read_stdin(size_t max_bytes) {
  std::string bytes;
  std::array<char, 1 << 16> buffer;
  while (true) {
    const ssize_t n = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ErrorCode::kIo, "cannot read stdin: {}", std::strerror(errno));
    if (n == 0) return bytes;
    bytes.append(buffer.data(), static_cast<size_t>(n));
    if (bytes.size() > max_bytes) fail(ErrorCode::kInvalidArgument, "stdin: more than {} bytes", max_bytes);
  }
}

std::optional<std::string> read_stdin_line() {
  std::string line;
  if (!std::getline(std::cin, line)) {
    if (std::cin.bad()) fail(ErrorCode::kIo, "cannot read stdin");
    return std::nullopt;
  }
  return line;
}

}  // namespace vl2::cli

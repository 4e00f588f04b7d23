#include "cli/terminal_process.h"

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <stdexcept>

#include "cli/process.h"

namespace vl2::cli_test {
namespace {

constexpr std::chrono::seconds kPatience{120};
constexpr int kPollMilliseconds = 200;

}  // namespace

TerminalProcess::TerminalProcess(const std::vector<std::string>& arguments,
                                 const std::vector<std::pair<std::string, std::string>>& environment) {
  const winsize size{.ws_row = 50, .ws_col = 200, .ws_xpixel = 0, .ws_ypixel = 0};
  child_ = ::forkpty(&terminal_, nullptr, nullptr, &size);
  if (child_ < 0) throw std::runtime_error("no terminal to be had");
  if (child_ > 0) return;
  ::setenv("TERM", "xterm", 1);
  name_test_model();
  for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<std::string> words = {program().string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

TerminalProcess::~TerminalProcess() {
  if (child_ > 0) {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  ::close(terminal_);
}

void TerminalProcess::type(const std::string& keys) {
  if (::write(terminal_, keys.data(), keys.size()) != static_cast<ssize_t>(keys.size()))
    throw std::runtime_error("the terminal takes no keys");
}

// false: the program has closed the terminal.
bool TerminalProcess::read_some() {
  pollfd ready{.fd = terminal_, .events = POLLIN, .revents = 0};
  if (::poll(&ready, 1, kPollMilliseconds) <= 0) return true;
  std::array<char, 4096> buffer;
  const ssize_t n = ::read(terminal_, buffer.data(), buffer.size());
  if (n <= 0) return false;
  screen_.append(buffer.data(), static_cast<size_t>(n));
  return true;
}

bool TerminalProcess::sees(const std::string& text) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  bool open = true;
  while (true) {
    if (const size_t at = screen_.find(text, seen_); at != std::string::npos) {
      seen_ = at + text.size();
      return true;
    }
    if (!open || std::chrono::steady_clock::now() > end) return false;
    open = read_some();
  }
}

int TerminalProcess::exit_code() {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (read_some() && std::chrono::steady_clock::now() < end) continue;
  int status = 0;
  if (::waitpid(child_, &status, 0) == child_) child_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace vl2::cli_test

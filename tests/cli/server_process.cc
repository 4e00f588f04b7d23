#include "cli/server_process.h"

#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "core/base/file.h"

namespace vl2::cli_test {
namespace {

constexpr std::chrono::seconds kToStart{120};
constexpr std::chrono::milliseconds kLook{20};

int code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status); }

}  // namespace

ServerProcess::ServerProcess(const std::vector<std::string>& arguments, unsigned seconds) {
  std::vector<std::string> words = {"serve", "--port", "0"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  write_file_atomic(temp_ / "in", "");
  child_ = start_vl2(words, {}, temp_ / "in", temp_ / "out", temp_ / "err", seconds);
  const auto deadline = std::chrono::steady_clock::now() + kToStart;
  constexpr std::string_view kAddress = "http://127.0.0.1:";
  while (running() && std::chrono::steady_clock::now() < deadline) {
    const std::string text = stderr_text();
    const size_t at = text.find(kAddress);
    if (at != text.npos && text.find("vl2 serve: ready") != text.npos) {
      port_ = std::atoi(text.c_str() + at + kAddress.size());
      return;
    }
    std::this_thread::sleep_for(kLook);
  }
  signal(SIGKILL);
  wait();
  throw std::runtime_error("vl2 serve did not start: " + stderr_text());
}

ServerProcess::~ServerProcess() {
  if (!running()) return;
  signal(SIGKILL);
  wait();
}

ProcessUse ServerProcess::use() const {
  const std::filesystem::path proc = "/proc/" + std::to_string(child_);
  ProcessUse use;
  std::ifstream status(proc / "status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) use.rss_bytes = std::atoll(line.c_str() + 6) << 10;
    if (line.starts_with("Threads:")) use.threads = std::atoll(line.c_str() + 8);
  }
  std::error_code gone;
  for (std::filesystem::directory_iterator at(proc / "fd", gone), end; at != end; at.increment(gone)) ++use.descriptors;
  return use;
}

bool ServerProcess::running() {
  int status = 0;
  if (!ended_ && ::waitpid(child_, &status, WNOHANG) == child_) {
    ended_ = true;
    code_ = code_of(status);
  }
  return !ended_;
}

void ServerProcess::signal(int number) const {
  if (!ended_) ::kill(child_, number);
}

int ServerProcess::wait() {
  int status = 0;
  if (!ended_ && ::waitpid(child_, &status, 0) == child_) {
    ended_ = true;
    code_ = code_of(status);
  }
  return code_;
}

std::string ServerProcess::stderr_text() const {
  return std::filesystem::exists(temp_ / "err") ? read_file(temp_ / "err") : std::string();
}

}  // namespace vl2::cli_test

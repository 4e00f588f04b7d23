// `vl2 serve` as a process of its own, on a free port of this machine.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cli/process.h"
#include "core/base/temp_folder.h"

namespace vl2::cli_test {

// What the system says about a process.
struct ProcessUse {
  int64_t rss_bytes = 0, threads = 0, descriptors = 0;
};

class ServerProcess {
 public:
  // Returns once it is ready; throws with what it wrote to stderr if it ends before, or is not within two minutes.
  // After `seconds` it is killed.
  explicit ServerProcess(const std::vector<std::string>& arguments, unsigned seconds = kLongestSeconds);
  ~ServerProcess();  // kills what is left
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  int port() const { return port_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  ProcessUse use() const;
  bool running();
  void signal(int number) const;
  // Its exit code once it has ended, waited for; minus the signal that killed it.
  int wait();
  std::string stderr_text() const;

 private:
  TempFolder temp_;
  pid_t child_ = -1;
  int port_ = 0;
  bool ended_ = false;
  int code_ = 0;
};

}  // namespace vl2::cli_test

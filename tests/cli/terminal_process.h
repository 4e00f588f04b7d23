// The built program in a terminal of its own, with somebody typing.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace vl2::cli_test {

class TerminalProcess {
 public:
  TerminalProcess(const std::vector<std::string>& arguments,
                  const std::vector<std::pair<std::string, std::string>>& environment);
  ~TerminalProcess();  // kills what still runs
  TerminalProcess(const TerminalProcess&) = delete;
  TerminalProcess& operator=(const TerminalProcess&) = delete;

  void type(const std::string& keys);
  // Waits until this text appears behind what was waited for before; false after two minutes or at the end.
  bool sees(const std::string& text);
  int exit_code();  // waits for the end; -1: killed by a signal

  const std::string& screen() const { return screen_; }  // everything printed so far, control sequences included

 private:
  bool read_some();

  pid_t child_ = -1;
  int terminal_ = -1;
  std::string screen_;
  size_t seen_ = 0;
};

}  // namespace vl2::cli_test

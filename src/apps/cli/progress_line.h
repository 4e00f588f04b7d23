// One line on stderr that says how far the work is, for people who wait.
//
// On a terminal it is rewritten in place and cleared before anything else is printed. Elsewhere, plain lines, and only
// once the work has taken two seconds. Any thread may call it.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

namespace vl2::cli {

class ProgressLine {
 public:
  explicit ProgressLine(std::string command);  // its name stands in front of plain lines
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // "vision 3 of 10 tiles". A new `what` begins a new stage.
  void show(std::string_view what, int64_t done, int64_t total, std::string_view unit);
  // The work is done; what comes next starts anew.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  std::mutex mutex_;
  const std::string command_;
  const bool terminal_;
  std::string what_;
  bool visible_ = false;
  Clock::time_point next_;  // not before this time, unless the stage changes on a terminal
};

}  // namespace vl2::cli

#include "apps/cli/progress_line.h"

#include <fmt/format.h>

#include <utility>

#include "apps/cli/terminal.h"

namespace vl2::cli {
namespace {

using namespace std::chrono_literals;
constexpr std::chrono::milliseconds kRewrite = 50ms, kPatience = 2s, kPlainPause = 5s;

}  // namespace

ProgressLine::ProgressLine(std::string command)
    : command_(std::move(command)),
      terminal_(stderr_is_terminal()),
      next_(Clock::now() + (terminal_ ? Clock::duration(0) : kPatience)) {}

ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::show(std::string_view what, int64_t done, int64_t total, std::string_view unit) {
  const std::scoped_lock lock(mutex_);
  const Clock::time_point now = Clock::now();
  if (now < next_ && !(terminal_ && what != what_)) return;
  what_ = what;
  const std::string text = fmt::format("{} {} of {} {}", what, done, total, unit);
  if (terminal_) {
    write_stderr("\r" + text + "\x1b[K");
    visible_ = true;
    next_ = now + kRewrite;
  } else {
    write_stderr(fmt::format("vl2 {}: {}\n", command_, text));
    next_ = now + kPlainPause;
  }
}

void ProgressLine::clear() {
  const std::scoped_lock lock(mutex_);
  if (visible_) write_stderr("\r\x1b[K");
  visible_ = false;
  what_.clear();
  if (!terminal_) next_ = Clock::now() + kPatience;
}

}  // namespace vl2::cli

#include "apps/server/process_stats.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace vl2::server {
namespace {

// Numbers of /proc/self/stat behind the program's name, which may hold anything; the first is field 3.
constexpr size_t kFirstField = 3, kUserTime = 14, kSystemTime = 15, kThreads = 20, kStartTime = 22, kVirtual = 23,
                 kResident = 24;

void read_stat(ProcessStats& stats) {
  std::ifstream file("/proc/self/stat");
  std::string text;
  std::getline(file, text);
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return;
  std::istringstream fields(text.substr(name_end + 1));
  std::string state;
  fields >> state;
  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  for (size_t field = kFirstField + 1; field <= kResident; ++field) {
    int64_t value = 0;
    if (!(fields >> value)) return;
    if (field == kUserTime || field == kSystemTime) stats.cpu_seconds += static_cast<double>(value) / ticks;
    if (field == kThreads) stats.threads = value;
    if (field == kStartTime) stats.start_time = static_cast<double>(value) / ticks;
    if (field == kVirtual) stats.virtual_bytes = value;
    if (field == kResident) stats.resident_bytes = value * ::sysconf(_SC_PAGESIZE);
  }
}

// When the machine was started; the process's start is counted from there.
double boot_time() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("btime ")) return std::stod(line.substr(6));
  return 0;
}

}  // namespace

ProcessStats process_stats() {
  ProcessStats stats;
  read_stat(stats);
  stats.start_time += boot_time();
  std::error_code failed;
  for (std::filesystem::directory_iterator at("/proc/self/fd", failed), end; !failed && at != end; at.increment(failed))
    ++stats.open_fds;
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    stats.max_fds = static_cast<int64_t>(limit.rlim_cur);
  return stats;
}

}  // namespace vl2::server

// What the system says about this process, as Prometheus' clients report it. Any thread.
#pragma once

#include <cstdint>

namespace vl2::server {

struct ProcessStats {
  double cpu_seconds = 0;  // user and system
  double start_time = 0;   // seconds since 1970
  int64_t resident_bytes = 0;
  int64_t virtual_bytes = 0;
  int64_t open_fds = 0;
  int64_t max_fds = 0;  // 0: no limit
  int64_t threads = 0;
};

// Zeros where /proc is not to be read.
ProcessStats process_stats();

}  // namespace vl2::server

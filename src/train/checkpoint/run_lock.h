// One writer a run's folder: a second one would take the first one's checkpoints away.
#pragma once

#include <filesystem>

namespace vl2::train {

// Holds the folder until it is destroyed, or the process ends in whatever way. Nothing is written: the lock is the
// kernel's, on the folder itself, and other machines may not see it on a network's disk.
class RunLock {
 public:
  // kInvalidArgument: somebody else holds it. kIo: the folder cannot be opened.
  explicit RunLock(const std::filesystem::path& folder);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace vl2::train

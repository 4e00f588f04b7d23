// A file that log lines are appended to. Any thread: a line is written whole, in one call.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string_view>

namespace vl2::server {

class LogFile {
 public:
  explicit LogFile(std::filesystem::path path);  // kIo
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  // Adds the newline. What cannot be written, because the disk is full, is lost and counted.
  void write(std::string_view line);
  // The file of this name, after somebody has moved it away. kIo: the old one stays in use.
  void reopen();
  int64_t lost() const;

 private:
  int open() const;

  const std::filesystem::path path_;
  mutable std::mutex mutex_;
  int descriptor_;
  int64_t lost_ = 0;
};

}  // namespace vl2::server

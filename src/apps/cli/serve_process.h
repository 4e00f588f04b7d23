// What `vl2 serve` has to do with the operating system: its signals, its log, its descriptors.
#pragma once

#include <signal.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "apps/server/log_file.h"

namespace vl2::cli {

enum class ServeSignal { kNone, kEnd, kReload };

// SIGTERM, Ctrl-C and SIGHUP as something to wait for. Blocked in every thread that is started afterwards.
class SignalWait {
 public:
  // Without `reloads`, SIGHUP ends: the terminal is gone.
  explicit SignalWait(bool reloads);
  ServeSignal wait(std::chrono::milliseconds time) const;

 private:
  sigset_t signals_ = {};
  bool reloads_;
};

// Where lines of the log go: a file, or else stderr, or nowhere.
class ServeLog {
 public:
  ServeLog(const std::string& path, bool quiet);  // kIo
  // Of the server's options; empty where nothing is logged. Must not outlive this.
  std::function<void(std::string_view)> sink();
  void event(std::string_view name, const nlohmann::ordered_json& fields);
  void reopen();  // kIo

 private:
  std::unique_ptr<server::LogFile> file_;
  bool quiet_;
};

// Raises the soft limit of descriptors to what the connections need. kInvalidArgument: the hard limit is below that.
void allow_descriptors(size_t connections);

}  // namespace vl2::cli

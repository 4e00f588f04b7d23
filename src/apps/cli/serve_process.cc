#include "apps/cli/serve_process.h"

#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/cli/terminal.h"
#include "apps/server/request_log.h"
#include "core/base/error.h"

namespace vl2::cli {
namespace {

constexpr rlim_t kOwnDescriptors = 64;  // the model's files, the log, sockets that listen

}  // namespace

SignalWait::SignalWait(bool reloads) : reloads_(reloads) {
  sigemptyset(&signals_);
  for (const int one : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals_, one);
  ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
}

ServeSignal SignalWait::wait(std::chrono::milliseconds time) const {
  const timespec limit = {static_cast<time_t>(time.count() / 1000), static_cast<long>(time.count() % 1000) * 1000000};
  const int signal = ::sigtimedwait(&signals_, nullptr, &limit);
  if (signal <= 0) return ServeSignal::kNone;
  return signal == SIGHUP && reloads_ ? ServeSignal::kReload : ServeSignal::kEnd;
}

ServeLog::ServeLog(const std::string& path, bool quiet)
    : file_(path.empty() ? nullptr : std::make_unique<server::LogFile>(path)), quiet_(quiet) {}

std::function<void(std::string_view)> ServeLog::sink() {
  if (file_ != nullptr) return [this](std::string_view line) { file_->write(line); };
  if (quiet_) return {};
  return [](std::string_view line) { write_stderr(std::string(line) + "\n"); };
}

void ServeLog::event(std::string_view name, const nlohmann::ordered_json& fields) {
  if (const auto write = sink()) write(server::event_line(name, fields));
}

void ServeLog::reopen() {
  if (file_ != nullptr) file_->reopen();
}

void allow_descriptors(size_t connections) {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  const rlim_t least = connections + kOwnDescriptors;
  if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < least)
    fail(ErrorCode::kInvalidArgument,
         "{} connections need {} file descriptors, and this process may have {}; raise the limit (ulimit -n, "
         "LimitNOFILE=) or lower --max-connections",
         connections, least, limit.rlim_max);
  const rlim_t wanted = 2 * connections + kOwnDescriptors;  // each may be fetching a picture
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace vl2::cli

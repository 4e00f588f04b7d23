#include "train/log/json_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/file.h"
#include "core/base/json.h"

namespace vl2::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kMaxLogBytes = size_t{4} << 30;
constexpr int64_t kMostSteps = int64_t{1} << 60;

[[noreturn]] void io_error(const fs::path& path, const char* what) {
  fail(ErrorCode::kIo, "{}: {}: {}; choose a folder you may write to that has space", path.string(), what,
       std::strerror(errno));
}

// Every whole line with its number; false from `line` ends it. The bytes that were gone over.
size_t for_each_line(std::string_view text, const std::function<bool(std::string_view line, int64_t number)>& line) {
  size_t begin = 0;
  for (int64_t number = 1;; ++number) {
    const size_t end = text.find('\n', begin);
    if (end == text.npos || !line(text.substr(begin, end - begin), number)) return begin;
    begin = end + 1;
  }
}

json parse_line(std::string_view line, const fs::path& path, int64_t number) {
  return parse_json(line, fmt::format("{}, line {}", path.string(), number));
}

int64_t step_of(const json& object, const fs::path& path, int64_t number) {
  const JsonObject reader(object, fmt::format("{}, line {}", path.string(), number));
  if (!reader.has("step")) reader.reject("step", "the number of the step");
  return reader.integer("step", 0, 0, kMostSteps);
}

// Bytes of the lines that belong to the steps up to `resumed`. A line that cannot be read ends what is kept.
size_t kept_bytes(const fs::path& path, int64_t resumed) {
  std::error_code ignored;
  if (resumed == 0 || !fs::exists(path, ignored)) return 0;
  const std::string text = read_file(path, kMaxLogBytes);
  return for_each_line(text, [&](std::string_view line, int64_t number) {
    try {
      return step_of(parse_line(line, path, number), path, number) <= resumed;
    } catch (const Error&) {
      return false;
    }
  });
}

}  // namespace

JsonLog::JsonLog(const fs::path& path, int64_t resumed_step) : path_(path) {
  const size_t kept = kept_bytes(path, resumed_step);
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) io_error(path, "cannot open");
  if (::ftruncate(fd_, static_cast<off_t>(kept)) != 0) {
    const int error = errno;
    ::close(fd_);
    errno = error;
    io_error(path, "cannot shorten");
  }
}

JsonLog::~JsonLog() { ::close(fd_); }

void JsonLog::write(const nlohmann::ordered_json& object) {
  VL2_CHECK(object.contains("step") && object["step"].is_number_integer(), "a line of the log without its step");
  const std::string line = object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  std::string_view left = line;
  struct stat before {};
  const bool known = ::fstat(fd_, &before) == 0;
  while (!left.empty()) {
    const ssize_t n = ::write(fd_, left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      // Without the half line, so that the next one does not stick to it.
      if (known && ::ftruncate(fd_, before.st_size) != 0) errno = error;
      errno = error;
      io_error(path_, "cannot write");
    }
    left.remove_prefix(static_cast<size_t>(n));
  }
}

LogSeries read_log(const fs::path& path, const std::string& key, const std::string& name) {
  LogSeries series;
  series.name = name;
  const std::string text = read_file(path, kMaxLogBytes);
  for_each_line(text, [&](std::string_view line, int64_t number) {
    const json object = parse_line(line, path, number);
    const int64_t step = step_of(object, path, number);
    const auto value = object.find(key);
    if (value == object.end() || !value->is_number() || !std::isfinite(value->get<double>())) return true;
    series.steps.push_back(static_cast<double>(step));
    series.values.push_back(value->get<double>());
    return true;
  });
  return series;
}

}  // namespace vl2::train

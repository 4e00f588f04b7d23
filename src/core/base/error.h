// The one exception type of the library, and the checks that throw it.
//
// A message says where, which value, what was expected and what to do. The library never prints,
// aborts or exits: only the programs under apps/ turn an Error into text and an exit code.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace vl2 {

enum class ErrorCode {
  kInvalidArgument,  // the caller's request cannot be served as it stands
  kNotFound,         // a file, tensor or token is not there
  kCorrupt,          // bytes that are not what they claim to be
  kUnsupported,      // well-formed, but something we do not run
  kOutOfMemory,      // needs more memory than there is; the message says how much
  kIo,               // the operating system refused
  kCancelled,        // stopped on request
  kInternal,         // a VL2_CHECK failed: our bug
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void check_failed(const char* condition, const char* file, int line, const std::string& detail);

}  // namespace vl2

// Always on: a failed check fails the request with ErrorCode::kInternal, never the process.
#define VL2_CHECK(condition, ...)                                                         \
  do {                                                                                    \
    if (!(condition)) [[unlikely]]                                                        \
      ::vl2::check_failed(#condition, __FILE__, __LINE__, ::fmt::format("" __VA_ARGS__)); \
  } while (0)

// What the fuzz targets share. A target is a file with LLVMFuzzerTestOneInput; libFuzzer calls it, or replay.cc.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace vl2::fuzz {

// A property that does not hold ends the program, which is how libFuzzer learns of it.
[[noreturn]] inline void broken(const char* file, int line, const char* property, const std::string& details) {
  std::fputs(fmt::format("{}:{}: does not hold: {}\n{}\n", file, line, property, details).c_str(), stderr);
  std::abort();
}

// Parts of an input, from its front. What is not there is zero, or empty.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  uint8_t byte() {
    if (rest_.empty()) return 0;
    const auto result = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return result;
  }
  std::string_view bytes(size_t count) {
    const std::string_view result = rest_.substr(0, count);
    rest_.remove_prefix(result.size());
    return result;
  }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

}  // namespace vl2::fuzz

#define VL2_HOLDS(property, ...)                                                                   \
  do {                                                                                             \
    if (!(property)) ::vl2::fuzz::broken(__FILE__, __LINE__, #property, fmt::format(__VA_ARGS__)); \
  } while (false)

// For tests only: where the large golden data lies, if it is on this machine at all.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

namespace vl2 {

// The root of the source tree, VL2_SOURCE_DIR where that is set (a test that was built elsewhere); linked into every
// test by vl2_test (cmake/vl2_targets.cmake).
const char* source_dir();

// VL2_SHARED, or ../shared beside the source tree. Empty when absent.
inline std::optional<std::filesystem::path> shared_folder(const std::string& source_dir) {
  const char* set = std::getenv("VL2_SHARED");
  std::filesystem::path path =
      set != nullptr ? std::filesystem::path(set) : std::filesystem::path(source_dir) / "../shared";
  if (!std::filesystem::exists(path / "golden")) return std::nullopt;
  return path;
}

inline bool in_ci() {
  const char* ci = std::getenv("CI");
  return ci != nullptr && std::string(ci) == "true";
}

}  // namespace vl2

// Starts a test that needs the golden data: declares `shared`, skips with a reason where it is absent, fails under
// CI=true.
// NOLINTBEGIN(bugprone-macro-parentheses): it is the name of a variable
#define VL2_NEED_SHARED(shared)                                                                      \
  const auto shared##_found = ::vl2::shared_folder(::vl2::source_dir());                             \
  if (!shared##_found) {                                                                             \
    if (::vl2::in_ci()) FAIL() << "the golden data is absent, and CI must have it (set VL2_SHARED)"; \
    GTEST_SKIP() << "no golden data here: set VL2_SHARED to its folder";                             \
  }                                                                                                  \
  const std::filesystem::path& shared = *shared##_found
// NOLINTEND(bugprone-macro-parentheses)

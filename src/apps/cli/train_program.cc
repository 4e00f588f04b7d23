#include "apps/cli/train_program.h"

#include <unistd.h>

#include <algorithm>

namespace vl2::cli {
namespace {

namespace fs = std::filesystem;

bool can_run(const fs::path& file) {
  std::error_code ignored;
  return fs::is_regular_file(file, ignored) && ::access(file.c_str(), X_OK) == 0;
}

}  // namespace

std::optional<fs::path> find_train_program(const fs::path& beside, std::string_view path) {
  constexpr const char* kName = "vl2-train";
  if (can_run(beside / kName)) return beside / kName;
  while (!path.empty()) {
    const size_t end = std::min(path.find(':'), path.size());
    const fs::path folder = path.substr(0, end);
    if (!folder.empty() && can_run(folder / kName)) return folder / kName;
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return std::nullopt;
}

}  // namespace vl2::cli

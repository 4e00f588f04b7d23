#include "core/base/available_memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <string_view>

#include "core/base/error.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

std::optional<int64_t> parse_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data() || value < 0) return std::nullopt;
  return value;
}

// "max" and unreadable files mean: no limit.
std::optional<int64_t> read_number(const fs::path& file) {
  std::ifstream in(file);
  std::string word;
  if (!(in >> word)) return std::nullopt;
  return parse_number(word);
}

// The number behind `key` in lines of "key value" or "key:  value kB".
std::optional<int64_t> read_field(const fs::path& file, std::string_view key) {
  std::ifstream in(file);
  std::string name, value, rest;
  while (in >> name >> value && std::getline(in, rest))
    if (name == key) return parse_number(value);
  return std::nullopt;
}

struct GroupFiles {
  const char* limit;
  const char* usage;
  const char* prefix;  // of the hierarchical counters in memory.stat
};
constexpr GroupFiles kVersion2 = {"memory.max", "memory.current", ""};
constexpr GroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_"};

std::optional<int64_t> left_in_group(const fs::path& folder, const GroupFiles& files) {
  const auto limit = read_number(folder / files.limit);
  const auto usage = read_number(folder / files.usage);
  if (!limit || !usage) return std::nullopt;
  int64_t cached = 0;
  for (const char* list : {"active_file", "inactive_file"})
    cached += read_field(folder / "memory.stat", std::string(files.prefix) + list).value_or(0);
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *usage - cached));
}

void take_least(std::optional<int64_t>& least, std::optional<int64_t> value) {
  if (value) least = least ? std::min(*least, *value) : *value;
}

// The group and every group around it. In a container the path may lie outside of what is mounted: then only the
// mount's top is there.
void walk_up(std::optional<int64_t>& least, const fs::path& mount, fs::path group, const GroupFiles& files) {
  group = group.relative_path();
  for (;;) {
    take_least(least, left_in_group(mount / group, files));
    if (group.empty()) return;
    group = group.parent_path();
  }
}

}  // namespace

std::optional<int64_t> available_memory(const fs::path& root) {
  std::optional<int64_t> least;
  if (const auto kilobytes = read_field(root / "proc/meminfo", "MemAvailable:")) least = *kilobytes * 1024;
  std::ifstream groups(root / "proc/self/cgroup");
  std::string line;  // "0::/path" or "7:memory,hugetlb:/path"
  while (std::getline(groups, line)) {
    const size_t first = line.find(':');
    const size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const fs::path path(line.substr(second + 1));
    if (controllers == ",,") {
      walk_up(least, root / "sys/fs/cgroup", path, kVersion2);
    } else if (controllers.find(",memory,") != controllers.npos) {
      walk_up(least, root / "sys/fs/cgroup/memory", path, kVersion1);
    }
  }
  return least;
}

int64_t peak_memory() {
  rusage usage{};
  return ::getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_maxrss * 1024 : 0;
}

}  // namespace vl2

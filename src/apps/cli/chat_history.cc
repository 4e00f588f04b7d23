#include "apps/cli/chat_history.h"

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"

namespace vl2::cli {
namespace {

using nlohmann::json;

constexpr size_t kMostBytes = size_t{16} << 20;
constexpr size_t kLongestEntry = size_t{16} << 10;

std::vector<std::string> read_entries(const std::filesystem::path& file) {
  std::string text;
  try {
    text = read_file(file, kMostBytes);
  } catch (const Error&) {
    return {};  // none yet, or one we cannot read: a chat works without
  }
  std::vector<std::string> entries;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    const json line = json::parse(text.substr(begin, end - begin), nullptr, false);
    if (line.is_string()) entries.push_back(line.get<std::string>());
  }
  return entries;
}

void append(std::vector<std::string>& entries, const std::string& line) {
  if (!entries.empty() && entries.back() == line) return;
  entries.push_back(line);
  if (entries.size() > ChatHistory::kMostEntries)
    entries.erase(entries.begin(), entries.end() - static_cast<std::ptrdiff_t>(ChatHistory::kMostEntries));
}

}  // namespace

std::filesystem::path ChatHistory::default_file() {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && *state == '/') return std::filesystem::path(state) / "vl2/chat_history";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home != '/') return {};
  return std::filesystem::path(home) / ".local/state/vl2/chat_history";
}

ChatHistory::ChatHistory(std::filesystem::path file) : file_(std::move(file)) {
  if (!file_.empty()) entries_ = read_entries(file_);
}

bool ChatHistory::add(const std::string& line) {
  if (line.empty() || line.size() > kLongestEntry) return true;
  append(entries_, line);
  if (file_.empty()) return true;
  std::vector<std::string> all = read_entries(file_);
  append(all, line);
  std::string text;
  for (const std::string& entry : all) text += json(entry).dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  try {
    std::filesystem::create_directories(file_.parent_path());
    write_file_atomic(file_, text);
    std::filesystem::permissions(file_, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  } catch (const std::exception&) {
    file_.clear();  // once is enough to complain
    return false;
  }
  return true;
}

}  // namespace vl2::cli

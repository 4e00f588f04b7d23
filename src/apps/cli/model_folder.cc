#include "apps/cli/model_folder.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"

#ifndef VL2_SOURCE_DIR
#define VL2_SOURCE_DIR ""
#endif

namespace vl2::cli {
namespace {

namespace fs = std::filesystem;

bool is_model(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_regular_file(folder / "config.json", ignored);
}

// Installed: PREFIX/bin/vl2 beside PREFIX/share/vl2. Built: the program stands somewhere below the source tree, or was
// built elsewhere from a tree whose place is compiled in.
fs::path shipped_model() {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  fs::path installed = program.parent_path().parent_path() / "share/vl2/models/nano";
  if (is_model(installed)) return installed;
  for (fs::path folder = program.parent_path(); folder.has_relative_path(); folder = folder.parent_path())
    if (is_model(folder / "models/nano")) return folder / "models/nano";
  if (is_model(fs::path(VL2_SOURCE_DIR) / "models/nano")) return fs::path(VL2_SOURCE_DIR) / "models/nano";
  fail(ErrorCode::kNotFound, "the small model that ships with the program is not in {}; name a model folder with -m",
       installed.string());
}

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

fs::path hub_cache() {
  if (const auto cache = variable("HF_HUB_CACHE")) return *cache;
  if (const auto home = variable("HF_HOME")) return fs::path(*home) / "hub";
  if (const auto cache = variable("XDG_CACHE_HOME")) return fs::path(*cache) / "huggingface/hub";
  return fs::path(variable("HOME").value_or("/")) / ".cache/huggingface/hub";
}

struct HubId {
  std::string organisation, name, revision;  // revision "main" if none is given
};

std::optional<HubId> parse_hub_id(std::string_view text) {
  std::string revision = "main";
  if (const size_t at = text.find('@'); at != std::string_view::npos) {
    revision = text.substr(at + 1);
    text = text.substr(0, at);
  }
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::string_view organisation = text.substr(0, slash), name = text.substr(slash + 1);
  const auto is_name = [](std::string_view part) {
    return !part.empty() && part.front() != '.' && std::all_of(part.begin(), part.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
             c == '.';
    });
  };
  if (!is_name(organisation) || !is_name(name) || !is_name(revision)) return std::nullopt;
  return HubId{std::string(organisation), std::string(name), revision};
}

// A branch or tag is a file under refs/ that holds the commit; a commit names its snapshot itself.
std::optional<fs::path> find_snapshot(const HubId& id, const fs::path& repository) {
  std::string commit = id.revision;
  std::error_code ignored;
  const fs::path ref = repository / "refs" / id.revision;
  if (fs::is_regular_file(ref, ignored)) {
    commit = read_file(ref, 4096);
    commit.erase(std::min(commit.find_first_of("\r\n "), commit.size()));
    if (commit.empty() || commit.find('/') != std::string::npos) return std::nullopt;
  }
  const fs::path snapshot = repository / "snapshots" / commit;
  if (is_model(snapshot)) return snapshot;
  return std::nullopt;
}

}  // namespace

fs::path find_model(const std::string& model) {
  if (model.empty()) {
    const std::optional<std::string> named = variable("VL2_MODEL");
    return named ? find_model(*named) : shipped_model();
  }
  std::error_code ignored;
  const fs::file_status status = fs::status(model, ignored);
  if (fs::is_directory(status)) {
    if (is_model(model)) return model;
    fail(ErrorCode::kNotFound, "{}: no config.json in this folder; name the folder a model was downloaded to", model);
  }
  if (fs::exists(status))
    fail(ErrorCode::kInvalidArgument, "{}: is a file; name the folder it lies in, with config.json beside it", model);
  const std::optional<HubId> id = parse_hub_id(model);
  if (!id) fail(ErrorCode::kNotFound, "{}: there is no such folder", model);
  const fs::path repository = hub_cache() / fmt::format("models--{}--{}", id->organisation, id->name);
  if (const auto snapshot = find_snapshot(*id, repository)) return *snapshot;
  fail(ErrorCode::kNotFound,
       "{}: there is no such folder, and if it is a model of the Hugging Face hub, revision {} of it is not downloaded "
       "(looked in {}). This program cannot download models yet: fetch its files with another tool, then name their "
       "folder",
       model, id->revision, repository.string());
}

}  // namespace vl2::cli

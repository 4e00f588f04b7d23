#include "core/checkpoint/folder_files.h"

#include <algorithm>
#include <string>

#include "core/base/error.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

bool is_inside(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

// What is written anew, or belongs to a checkpoint of training alone.
bool is_left_out(const std::string& name) {
  for (const char* whole : {"config.json", "checkpoint.json", "state.json"})
    if (name == whole) return true;
  for (const char* suffix : {".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth"})
    if (name.ends_with(suffix)) return true;
  return false;
}

}  // namespace

void copy_other_files(const fs::path& in, const fs::path& out, bool keep) {
  const auto existing = keep ? fs::copy_options::skip_existing : fs::copy_options::none;
  std::error_code error;
  const fs::directory_iterator entries(in, error);
  if (error) fail(ErrorCode::kIo, "{}: cannot list the folder: {}", in.string(), error.message());
  for (const auto& entry : entries) {
    const std::string name = entry.path().filename().string();
    if (is_left_out(name) || !fs::is_regular_file(entry.path(), error)) continue;
    fs::copy_file(entry.path(), out / name, existing, error);
    if (error) fail(ErrorCode::kIo, "{}: cannot copy it: {}", entry.path().string(), error.message());
  }
}

void check_apart(const fs::path& in, const fs::path& out) {
  std::error_code ignored;
  fs::path a = fs::weakly_canonical(fs::absolute(in), ignored), b = fs::weakly_canonical(fs::absolute(out), ignored);
  if (!a.has_filename()) a = a.parent_path();
  if (!b.has_filename()) b = b.parent_path();
  if (is_inside(a, b) || is_inside(b, a))
    fail(ErrorCode::kInvalidArgument, "{}: is {}, expected a folder apart from it", out.string(),
         a == b ? "the model itself" : "inside the model's folder or around it");
}

void check_room(const fs::path& folder, int64_t bytes) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (!error && space.available < static_cast<uintmax_t>(bytes))
    fail(ErrorCode::kIo, "{}: {} bytes are free there, expected {} for the weights; choose a place with more room",
         folder.parent_path().string(), space.available, bytes);
}

}  // namespace vl2

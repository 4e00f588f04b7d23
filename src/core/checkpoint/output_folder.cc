#include "core/checkpoint/output_folder.h"

#include <unistd.h>

#include "core/base/error.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void io_error(const fs::path& path, const char* what, const std::error_code& error) {
  fail(ErrorCode::kIo, "{}: cannot {}: {}; choose a folder you may write to", path.string(), what, error.message());
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& target, bool replace) {
  std::error_code error;
  target_ = fs::weakly_canonical(fs::absolute(target), error);  // what a link points at, so that the link stays
  if (error) io_error(target, "find it", error);
  if (!target_.has_filename()) target_ = target_.parent_path();  // "out/"
  if (fs::exists(target_, error)) {
    if (!fs::is_directory(target_, error))
      fail(ErrorCode::kInvalidArgument, "{}: is a file; name a folder", target.string());
    const bool empty = fs::is_empty(target_, error);
    if (!empty && !replace)
      fail(ErrorCode::kInvalidArgument, "{}: is there and not empty; name another folder, or use --force",
           target.string());
    // Whatever is replaced is deleted: it must look like what this program writes.
    if (!empty && !fs::is_regular_file(target_ / "config.json", error))
      fail(ErrorCode::kInvalidArgument,
           "{}: has no config.json, so it is no model that could be replaced; name another folder", target.string());
  }
  path_ = target_;
  path_ += fmt::format(".tmp{}", ::getpid());
  fs::create_directories(path_, error);
  if (error) io_error(path_, "create the folder", error);
}

OutputFolder::~OutputFolder() {
  std::error_code ignored;
  if (!kept_) fs::remove_all(path_, ignored);
}

void OutputFolder::keep() {
  std::error_code error;
  fs::path old = target_;
  old += fmt::format(".old{}", ::getpid());
  const bool replaces = fs::exists(target_, error);
  if (replaces) fs::rename(target_, old, error);
  if (error) io_error(target_, "move the old folder away", error);
  fs::rename(path_, target_, error);
  if (error) {
    std::error_code ignored;
    if (replaces) fs::rename(old, target_, ignored);
    io_error(target_, "create the folder", error);
  }
  kept_ = true;
  if (replaces) fs::remove_all(old, error);
}

}  // namespace vl2

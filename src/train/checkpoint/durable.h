// Folders that are on disk, and not merely on their way there. Plain functions; kIo on failure.
#pragma once

#include <filesystem>

namespace vl2::train {

// Removes the folder, if it is still there, when the scope ends.
class FolderGuard {
 public:
  explicit FolderGuard(std::filesystem::path folder) : folder_(std::move(folder)) {}
  ~FolderGuard();
  FolderGuard(const FolderGuard&) = delete;
  FolderGuard& operator=(const FolderGuard&) = delete;

 private:
  std::filesystem::path folder_;
};

void make_folders(const std::filesystem::path& folder);

void sync_files(const std::filesystem::path& folder);   // every file in it, and the folder itself
void sync_folder(const std::filesystem::path& folder);  // the list of its files

// `hidden` gets the name `target`. What stood there is exchanged with it in one step and then lies under `hidden`.
void put_in_place(const std::filesystem::path& hidden, const std::filesystem::path& target);

}  // namespace vl2::train

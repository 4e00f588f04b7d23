// A whole file mapped read-only. Owns the mapping; views into it die with it. Safe to read from any thread.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace vl2 {

class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& path);  // kNotFound, kIo
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

  // Tells the kernel that these bytes of the mapping will not be read again soon, so that they stop
  // counting as ours. Reading them later is still correct.
  void release(std::span<const std::byte> part) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace vl2

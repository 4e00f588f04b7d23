#include "core/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "core/base/error.h"
#include "core/base/temp_folder.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

ErrorCode code_of(const fs::path& path, size_t most) {
  try {
    read_unmoved_file(path, most);
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << path << " was read";
  return ErrorCode::kInternal;
}

TEST(ReadFile, ReadsUpToALimit) {
  const TempFolder folder;
  write_file_atomic(folder / "a", "0123456789");
  EXPECT_EQ(read_file(folder / "a", 10), "0123456789");
  EXPECT_THROW(read_file(folder / "a", 9), Error);
  EXPECT_THROW(read_file(folder / "none"), Error);
  EXPECT_THROW(read_file(folder.path()), Error);
}

// As if each of these had been put there between the look at the path and its use.
TEST(ReadFile, TakesNoFileThatIsElsewhereByNow) {
  const TempFolder outer;
  const fs::path folder = fs::canonical(outer.path());
  fs::create_directories(folder / "in");
  fs::create_directories(folder / "secret");
  write_file_atomic(folder / "in/a", "0123456789");
  write_file_atomic(folder / "secret/a", "9876543210");
  EXPECT_EQ(read_unmoved_file(folder / "in/a", 10), "0123456789");
  EXPECT_EQ(code_of(folder / "in/a", 9), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(folder / "in/none", 10), ErrorCode::kNotFound);

  fs::create_symlink(folder / "secret/a", folder / "in/link");
  fs::create_directory_symlink(folder / "secret", folder / "up");
  ASSERT_EQ(::mkfifo((folder / "in/pipe").c_str(), 0600), 0);
  for (const fs::path& path : {folder / "in/link", folder / "up/a", folder / "in/pipe", folder / "in"})
    EXPECT_EQ(code_of(path, 10), ErrorCode::kIo) << path;
}

}  // namespace
}  // namespace vl2

#include "apps/cli/train_program.h"

#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/temp_folder.h"

namespace vl2::cli {
namespace {

namespace fs = std::filesystem;

void write_program(const fs::path& folder, fs::perms perms = fs::perms::owner_all) {
  fs::create_directories(folder);
  write_file_atomic(folder / "vl2-train", "#!/bin/sh\n");
  fs::permissions(folder / "vl2-train", perms);
}

TEST(TrainProgram, TheOneBesideTheProgramComesBeforePath) {
  const TempFolder temp;
  write_program(temp / "a");
  write_program(temp / "b");
  const std::string path = (temp / "b").string() + ":" + (temp / "a").string();
  EXPECT_EQ(find_train_program(temp / "a", path), temp / "a/vl2-train");
  EXPECT_EQ(find_train_program(temp / "absent", path), temp / "b/vl2-train");
}

TEST(TrainProgram, PassesOverWhatCannotRun) {
  const TempFolder temp;
  write_program(temp / "a", fs::perms::owner_read);
  fs::create_directories(temp / "b/vl2-train");
  write_program(temp / "c");
  const std::string path = "::" + (temp / "b").string() + ":" + (temp / "c").string() + ":";
  EXPECT_EQ(find_train_program(temp / "a", ""), std::nullopt);  // root too may not run what nobody may
  EXPECT_EQ(find_train_program(temp / "b", path), temp / "c/vl2-train");
  EXPECT_EQ(find_train_program(temp / "b", ""), std::nullopt);
  EXPECT_EQ(find_train_program(temp / "b", "::"), std::nullopt);
}

}  // namespace
}  // namespace vl2::cli

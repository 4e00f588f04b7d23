#include "core/base/available_memory.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "core/base/temp_folder.h"

namespace vl2 {
namespace {

constexpr int64_t kMiB = 1 << 20;

class AvailableMemory : public testing::Test {
 protected:
  void write(const std::filesystem::path& file, const std::string& text) {
    const auto path = folder_.path() / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::optional<int64_t> available() const { return available_memory(folder_.path()); }

  TempFolder folder_;
};

TEST_F(AvailableMemory, IsUnknownWhereNothingCanBeRead) { EXPECT_EQ(available(), std::nullopt); }

TEST_F(AvailableMemory, IsMemAvailableWithoutControlGroups) {
  write("proc/meminfo", "MemTotal:       24684092 kB\nMemFree:        22906500 kB\nMemAvailable:    2048 kB\n");
  EXPECT_EQ(available(), 2 * kMiB);
}

TEST_F(AvailableMemory, IsWhatTheGroupHasLeftAndItsFilePagesCountAsFree) {
  write("proc/meminfo", "MemAvailable:   1048576 kB\n");
  write("proc/self/cgroup", "0::/app\n");
  write("sys/fs/cgroup/app/memory.max", "104857600\n");                                                    // 100 MiB
  write("sys/fs/cgroup/app/memory.current", "62914560\n");                                                 // 60 MiB
  write("sys/fs/cgroup/app/memory.stat", "anon 41943040\nactive_file 5242880\ninactive_file 10485760\n");  // 15 MiB
  EXPECT_EQ(available(), 55 * kMiB);
}

TEST_F(AvailableMemory, TheTightestGroupAroundCounts) {
  write("proc/meminfo", "MemAvailable:   1048576 kB\n");
  write("proc/self/cgroup", "0::/outer/inner\n");
  write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  write("sys/fs/cgroup/outer/inner/memory.current", "1048576\n");
  write("sys/fs/cgroup/outer/memory.max", "20971520\n");
  write("sys/fs/cgroup/outer/memory.current", "10485760\n");
  EXPECT_EQ(available(), 10 * kMiB);
}

TEST_F(AvailableMemory, InAContainerTheMountsTopCounts) {
  write("proc/meminfo", "MemAvailable:   1048576 kB\n");
  write("proc/self/cgroup", "0::/../../some/where\n");
  write("sys/fs/cgroup/memory.max", "8388608\n");
  write("sys/fs/cgroup/memory.current", "1048576\n");
  EXPECT_EQ(available(), 7 * kMiB);
}

TEST_F(AvailableMemory, VersionOneGroupsAreRead) {
  write("proc/meminfo", "MemAvailable:   1048576 kB\n");
  write("proc/self/cgroup", "7:hugetlb,memory:/job\n3:cpuset:/job\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "33554432\n");
  write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "16777216\n");
  write("sys/fs/cgroup/memory/job/memory.stat", "inactive_file 0\ntotal_inactive_file 1048576\n");
  EXPECT_EQ(available(), 17 * kMiB);
}

TEST_F(AvailableMemory, AGroupOverItsLimitHasNothingLeft) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "1000\n");
  write("sys/fs/cgroup/memory.current", "2000\n");
  EXPECT_EQ(available(), 0);
}

TEST_F(AvailableMemory, NonsenseIsNoLimit) {
  write("proc/meminfo", "MemAvailable:   2048 kB\n");
  write("proc/self/cgroup", "nonsense\n0:\n0::/app\n");
  write("sys/fs/cgroup/app/memory.max", "-5\n");
  write("sys/fs/cgroup/app/memory.current", "lots\n");
  EXPECT_EQ(available(), 2 * kMiB);
}

TEST(AvailableMemoryHere, IsReadFromTheRealFiles) {
  const auto available = available_memory();
  ASSERT_TRUE(available.has_value());
  EXPECT_GT(*available, kMiB);
}

}  // namespace
}  // namespace vl2

#include "train/log/json_log.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"

namespace vl2::train {
namespace {

void write_steps(const std::filesystem::path& path, int64_t resumed, int64_t first, int64_t last) {
  JsonLog log(path, resumed);
  for (int64_t step = first; step <= last; ++step)
    log.write({{"step", step}, {"loss", 1.0 / static_cast<double>(step)}});
}

TEST(JsonLog, EveryLineIsInTheFileAtOnce) {
  const TempFolder temp;
  JsonLog log(temp / "log.jsonl", 0);
  log.write({{"step", 1}, {"loss", 2.5}});
  EXPECT_EQ(read_file(temp / "log.jsonl"), "{\"step\":1,\"loss\":2.5}\n");
  log.write({{"step", 2}, {"note", "\xff"}});
  EXPECT_EQ(read_file(temp / "log.jsonl").substr(22), "{\"step\":2,\"note\":\"\xef\xbf\xbd\"}\n");
}

TEST(JsonLog, AResumedRunContinuesBehindItsCheckpoint) {
  const TempFolder temp;
  write_steps(temp / "log.jsonl", 0, 1, 9);
  write_steps(temp / "log.jsonl", 6, 7, 8);
  const LogSeries loss = read_log(temp / "log.jsonl", "loss", "a");
  EXPECT_EQ(loss.steps, (std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8}));
  write_steps(temp / "log.jsonl", 0, 1, 2);  // a new run
  EXPECT_EQ(read_log(temp / "log.jsonl", "loss", "a").steps, (std::vector<double>{1, 2}));
  write_steps(temp / "new.jsonl", 5, 6, 6);  // a log that went lost
  EXPECT_EQ(read_log(temp / "new.jsonl", "loss", "a").steps, (std::vector<double>{6}));
}

TEST(JsonLog, ALineThatACrashCutOffDoesNotStay) {
  const TempFolder temp;
  write_file_atomic(temp / "log.jsonl", "{\"step\":1}\n{\"step\":2}\n{\"step\":3,\"lo");
  write_steps(temp / "log.jsonl", 3, 4, 4);
  EXPECT_EQ(read_file(temp / "log.jsonl"), "{\"step\":1}\n{\"step\":2}\n{\"step\":4,\"loss\":0.25}\n");
}

TEST(JsonLog, AFullDiskIsAnErrorAndLeavesWholeLines) {
  const TempFolder temp;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {40, 40};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int code = 1;
    try {
      write_steps(temp / "log.jsonl", 0, 1, 9);
    } catch (const Error& error) {
      code =
          error.code() == ErrorCode::kIo && std::string(error.what()).find("cannot write") != std::string::npos ? 0 : 2;
    }
    ::_exit(code);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read_file(temp / "log.jsonl"), "{\"step\":1,\"loss\":1.0}\n");
}

TEST(ReadLog, PassesOverWhatIsNoNumberAndNamesTheLineThatIsBroken) {
  const TempFolder temp;
  {
    JsonLog log(temp / "log.jsonl", 0);
    log.write({{"step", 1}, {"loss", std::numeric_limits<double>::quiet_NaN()}});
    log.write({{"step", 2}, {"answer", "x"}});
    log.write({{"step", 3}, {"loss", 0.5}});
  }
  const LogSeries loss = read_log(temp / "log.jsonl", "loss", "mine");
  EXPECT_EQ(loss.name, "mine");
  EXPECT_EQ(loss.steps, std::vector<double>{3});
  EXPECT_EQ(loss.values, std::vector<double>{0.5});
  for (const char* bad : {"{\"step\":1}\n[1]\n", "{\"step\":1}\n{\"loss\":1}\n", "{\"step\":1}\n{\"step\":-1}\n",
                          "{\"step\":1}\n{\"step\"\n"}) {
    write_file_atomic(temp / "bad.jsonl", bad);
    try {
      read_log(temp / "bad.jsonl", "loss", "");
      ADD_FAILURE() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
      EXPECT_NE(std::string(error.what()).find("bad.jsonl, line 2"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace vl2::train

// What every command has in common: help, exit codes, streams.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>

#include "cli/process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"

namespace vl2::cli_test {
namespace {

const std::vector<std::string> kCommands = {"ask", "bench", "chat", "info", "tokenize", "prompt", "tiles", "trace"};

// Runs a shell command with $VL2 set to the program.
struct ShellOutcome {
  int exit_code;
  std::string out;
};
ShellOutcome shell(const std::string& command) {
  const TempFolder temp;
  const std::string line =
      "VL2='" + program().string() + "'; { " + command + "\n} > '" + (temp / "out").string() + "' 2>&1";
  const int status = std::system(line.c_str());
  return {WEXITSTATUS(status), read_file(temp / "out")};
}

TEST(Program, VersionIsOneLineOnStdout) {
  const Outcome outcome = run_vl2({"--version"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_TRUE(outcome.out.starts_with("vl2 ")) << outcome.out;
  EXPECT_EQ(outcome.out.find('\n'), outcome.out.size() - 1);
}

TEST(Program, HelpListsEveryCommandAndEachExplainsItselfWithAnExample) {
  const Outcome all = run_vl2({"--help"});
  EXPECT_EQ(all.exit_code, 0);
  for (const std::string& command : kCommands) {
    EXPECT_NE(all.out.find("\n  " + command + " "), std::string::npos) << all.out;
    const Outcome help = run_vl2({command, "--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_EQ(help.err, "");
    EXPECT_NE(help.out.find("Example"), std::string::npos) << help.out;
    EXPECT_NE(help.out.find("vl2 " + command, help.out.find("Example")), std::string::npos) << help.out;
  }
}

TEST(Program, WrongUseIsExitCode2AndSaysWhereToFindHelp) {
  const std::vector<std::vector<std::string>> wrong = {{"nonsense"},
                                                       {"tiles"},
                                                       {"tiles", "-i"},
                                                       {"tokenize", "--nonsense"},
                                                       {"trace", "--backend", "abacus"},
                                                       {"info", "a", "b"},
                                                       {"trace", "-o", "x"}};
  for (const auto& arguments : wrong) {
    const Outcome outcome = run_vl2(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments[0] << ": " << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find("--help"), std::string::npos) << outcome.err;
  }
  EXPECT_EQ(run_vl2({}).exit_code, 2);
}

TEST(Program, AReaderThatLeavesEndsItQuietly) {
  const ShellOutcome outcome = shell("yes '\"a\"' | \"$VL2\" tokenize | head -n 1");
  EXPECT_EQ(outcome.out, "[67]\n");
}

TEST(Program, AFullOrClosedStdoutIsAnError) {
  const ShellOutcome full = shell("\"$VL2\" info >/dev/full");
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_NE(full.out.find("vl2 info: cannot write to stdout: No space left on device"), std::string::npos) << full.out;
  const ShellOutcome closed = shell("\"$VL2\" info >&-");
  EXPECT_EQ(closed.exit_code, 1);
  EXPECT_NE(closed.out.find("cannot write to stdout"), std::string::npos) << closed.out;
}

}  // namespace
}  // namespace vl2::cli_test

// Runs the built program and collects what it says.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace vl2::cli_test {

struct Outcome {
  int exit_code = -1;  // -1: killed by `signal`
  int signal = 0;
  std::string out, err;
};

struct RunOptions {
  std::string input;                                             // stdin
  std::vector<std::pair<std::string, std::string>> environment;  // set besides what the test has
  std::filesystem::path folder;                                  // to run in; empty: where the test runs
  std::filesystem::path stdout_file;                             // instead of Outcome::out
};

std::filesystem::path program();
// In the child: where a test names no model, the tests' own answers, whatever ships.
void name_test_model();

inline constexpr unsigned kLongestSeconds = 600;
// Starts it with its streams in these files, and returns at once. After so many seconds it is killed.
pid_t start_vl2(const std::vector<std::string>& arguments, const RunOptions& options, const std::filesystem::path& in,
                const std::filesystem::path& out, const std::filesystem::path& err, unsigned seconds = kLongestSeconds);

// build/.../vl2 with these arguments. After ten minutes it is killed.
Outcome run_vl2(const std::vector<std::string>& arguments, const RunOptions& options = {});
Outcome run_vl2(const std::vector<std::string>& arguments, const std::string& input);

// One message that starts with "vl2 COMMAND: " (further lines of it are indented), exit code 1 and nothing on stdout.
void expect_failure(const Outcome& outcome, const std::string& command, const std::vector<std::string>& words);

// Names in a folder, sorted.
std::vector<std::string> names_in(const std::filesystem::path& folder);

}  // namespace vl2::cli_test

#include "cli/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"

namespace vl2::cli_test {
namespace {

[[noreturn]] void become_vl2(const std::vector<std::string>& arguments, const RunOptions& options,
                             const std::filesystem::path& in, const std::filesystem::path& out,
                             const std::filesystem::path& err, unsigned seconds) {
  if (!options.folder.empty() && ::chdir(options.folder.c_str()) != 0) ::_exit(126);
  ::dup2(::open(in.c_str(), O_RDONLY), STDIN_FILENO);
  ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
  ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
  name_test_model();
  for (const auto& [name, value] : options.environment) ::setenv(name.c_str(), value.c_str(), 1);
  ::alarm(seconds);
  std::vector<std::string> words = {program().string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

}  // namespace

std::filesystem::path program() { return VL2_PROGRAM; }

void name_test_model() {
  const std::string model = std::string(source_dir()) + "/tests/goldens/nano/model";
  ::setenv("VL2_MODEL", model.c_str(), 1);
}

pid_t start_vl2(const std::vector<std::string>& arguments, const RunOptions& options, const std::filesystem::path& in,
                const std::filesystem::path& out, const std::filesystem::path& err, unsigned seconds) {
  const pid_t child = ::fork();
  if (child == 0) become_vl2(arguments, options, in, out, err, seconds);
  return child;
}

Outcome run_vl2(const std::vector<std::string>& arguments, const RunOptions& options) {
  const TempFolder temp;
  write_file_atomic(temp / "in", options.input);
  const std::filesystem::path out = options.stdout_file.empty() ? temp / "out" : options.stdout_file;
  const pid_t child = start_vl2(arguments, options, temp / "in", out, temp / "err");
  int status = 0;
  ::waitpid(child, &status, 0);
  Outcome outcome;
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  if (options.stdout_file.empty()) outcome.out = read_file(out);
  outcome.err = read_file(temp / "err");
  return outcome;
}

Outcome run_vl2(const std::vector<std::string>& arguments, const std::string& input) {
  RunOptions options;
  options.input = input;
  return run_vl2(arguments, options);
}

void expect_failure(const Outcome& outcome, const std::string& command, const std::vector<std::string>& words) {
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_TRUE(outcome.err.starts_with("vl2 " + command + ": ")) << outcome.err;
  for (size_t at = outcome.err.find('\n'); at + 1 < outcome.err.size(); at = outcome.err.find('\n', at + 1))
    EXPECT_EQ(outcome.err.substr(at + 1, 2), "  ") << "more than one message:\n" << outcome.err;
  for (const std::string& word : words)
    EXPECT_NE(outcome.err.find(word), std::string::npos) << word << "\n" << outcome.err;
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace vl2::cli_test

// The table of commands: what `vl2 NAME` runs.
//
// A new command is one file and two lines: command_NAME.cc defines declare_NAME(), this header declares it, and
// commands.cc lists it with a summary. declare_NAME() adds the command's options to its CLI::App, with an example in
// the footer, and returns what to run once they are parsed; values the options are parsed into live in a
// shared_ptr that the returned function holds. That function gives the exit code (kExitOk, kExitFailed,
// kExitInterrupted); anything wrong it throws as vl2::Error or UsageError, and main() says it on stderr.
#pragma once

#include <functional>
#include <span>
#include <stdexcept>

namespace CLI {
class App;
}

namespace vl2::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;  // Ctrl-C, as a shell reports it

using RunCommand = std::function<int()>;

// Options that do not make sense together: exit code 2.
class UsageError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Command {
  const char* name;
  const char* summary;  // one line of `vl2 --help`
  RunCommand (*declare)(CLI::App& app);
};

std::span<const Command> commands();

RunCommand declare_ask(CLI::App& app);
RunCommand declare_bench(CLI::App& app);
RunCommand declare_bench_serve(CLI::App& app);
RunCommand declare_chat(CLI::App& app);
RunCommand declare_data(CLI::App& app);
RunCommand declare_drift(CLI::App& app);
RunCommand declare_eval(CLI::App& app);
RunCommand declare_info(CLI::App& app);
RunCommand declare_lora(CLI::App& app);
RunCommand declare_prompt(CLI::App& app);
RunCommand declare_quantize(CLI::App& app);
RunCommand declare_serve(CLI::App& app);
RunCommand declare_tiles(CLI::App& app);
RunCommand declare_tokenize(CLI::App& app);
RunCommand declare_trace(CLI::App& app);
RunCommand declare_train(CLI::App& app);

}  // namespace vl2::cli

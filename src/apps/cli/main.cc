// The program: picks the command, runs it, and turns what it throws into one line on stderr and an exit code.
#include <CLI/CLI.hpp>
#include <memory>
#include <new>

#include "apps/cli/commands.h"
#include "apps/cli/terminal.h"
#include "core/base/error.h"

namespace vl2::cli {
namespace {

struct DeclaredCommand {
  CLI::App* app;
  RunCommand run;
};

// Options without their "Excludes" and "Needs": what does not go together is said when somebody tries.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text;
    if (option->get_type_size() != 0) text += " " + option->get_type_name();
    if (option->get_required()) text += " (required)";
    return text;
  }
};

// "vl2 ask", "vl2 data synth nano", or "vl2" while no command is chosen.
std::string chosen_name(const CLI::App& app) {
  std::string name = "vl2";
  for (auto chosen = app.get_subcommands(); !chosen.empty(); chosen = chosen.front()->get_subcommands())
    name += " " + chosen.front()->get_name();
  return name;
}

void complain(const std::string& who, std::string_view what) {
  write_stderr(printable(fmt::format("{}: {}\n", who, what)));
}

int usage_error(const std::string& name, const std::string& message) {
  complain(name, message);
  write_stderr(fmt::format("Try: {} --help\n", name));
  return kExitUsage;
}

int run_command(const std::string& name, const RunCommand& run) {
  try {
    return run();
  } catch (const UsageError& e) {
    return usage_error(name, e.what());
  } catch (const Error& e) {
    complain(name, e.what());
  } catch (const std::bad_alloc&) {
    complain(name, "out of memory; close other programs, or use a smaller model, picture or context");
  }
  return kExitFailed;
}

int run_program(int argc, char** argv) {
  CLI::App app{"DeepSeek-VL2: ask questions about pictures.", "vl2"};
  app.set_version_flag("--version", "vl2 " VL2_VERSION);
  app.set_help_flag("-h,--help", "Explain, with an example");
  app.require_subcommand(1);
  const auto formatter = std::make_shared<HelpFormatter>();
  formatter->column_width(26);
  app.formatter(formatter);  // inherited by the commands
  app.footer("vl2 COMMAND --help explains a command and shows an example.");
  std::vector<DeclaredCommand> declared;
  for (const Command& command : commands()) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary);
    declared.push_back({sub, command.declare(*sub)});
  }
  if (argc < 2) {
    write_stderr(app.help());
    return kExitUsage;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForVersion& version) {
    write_stdout(std::string(version.what()) + "\n");
    return kExitOk;
  } catch (const CLI::CallForHelp&) {
    write_stdout(app.help());
    return kExitOk;
  } catch (const CLI::ParseError& error) {
    const bool extra = error.get_name() == "ExtrasError";
    return usage_error(chosen_name(app), error.what() + std::string(extra ? " (several words need quotes)" : ""));
  }
  for (const DeclaredCommand& command : declared)
    if (command.app->parsed()) return run_command(chosen_name(app), command.run);
  return kExitUsage;
}

}  // namespace
}  // namespace vl2::cli

int main(int argc, char** argv) {
  vl2::cli::prepare_streams();
  try {
    return vl2::cli::run_program(argc, argv);
  } catch (const vl2::cli::StdoutClosed&) {
    return vl2::cli::kExitFailed;  // whoever closed it knows
  } catch (const std::exception& e) {
    vl2::cli::complain("vl2", e.what());
    return vl2::cli::kExitFailed;
  }
}

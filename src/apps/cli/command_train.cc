// vl2 train: hands its arguments to the separate program vl2-train, as git does with commands of its own.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "apps/cli/commands.h"
#include "apps/cli/train_program.h"
#include "core/base/error.h"

namespace vl2::cli {
namespace {

namespace fs = std::filesystem;

int run(std::vector<std::string> arguments) {
  if (arguments.empty()) throw UsageError("name a recipe, or `curve LOG -o curve.png`");
  std::error_code ignored;
  const fs::path beside = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  const char* path = std::getenv("PATH");
  const auto program = find_train_program(beside, path != nullptr ? path : "");
  if (!program)
    fail(ErrorCode::kNotFound,
         "training is done by the program vl2-train, which is neither in {} nor on PATH. It needs libtorch: in the "
         "source tree, scripts/install_deps.sh --train installs it, and the next build makes vl2-train beside vl2",
         beside.string());
  arguments.insert(arguments.begin(), program->string());
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  ::execv(program->c_str(), argv.data());
  fail(ErrorCode::kIo, "{}: cannot start it: {}", program->string(), std::strerror(errno));
}

}  // namespace

RunCommand declare_train(CLI::App& app) {
  // Everything behind the first argument that is not ours belongs to vl2-train, options too.
  app.prefix_command();
  app.footer(
      "All arguments go to the program vl2-train, which is looked for beside vl2 and on PATH; `vl2 train RECIPE.json\n"
      "--help` shows its options. Recipes and their fields: docs/training.md.\n\n"
      "Example:\n  vl2 train src/train/recipes/lora_sft.json output=runs/mine learning_rate=2e-4\n"
      "  vl2 train curve runs/mine/log.jsonl -o curve.png");
  return [&app] { return run(app.remaining()); };
}

}  // namespace vl2::cli

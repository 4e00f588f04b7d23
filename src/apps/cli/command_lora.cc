// vl2 lora merge: an adapter's matrices added to those of its model.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/commands.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/progress_line.h"
#include "apps/cli/terminal.h"
#include "core/base/error.h"
#include "core/base/format_bytes.h"
#include "core/checkpoint/lora_merge.h"

namespace vl2::cli {
namespace {

using nlohmann::ordered_json;

struct LoraCommandOptions {
  std::string action, model, adapter, out;
  double shard_gib = 4;
  int threads = 0;
  bool force = false, json = false;
};

int run(const LoraCommandOptions& command) {
  LoraMergeOptions options;
  options.max_shard_bytes = static_cast<uint64_t>(command.shard_gib * static_cast<double>(1 << 30));
  options.num_threads = command.threads;
  options.replace = command.force;
  ProgressLine progress("lora");
  options.progress = [&progress](int64_t done, int64_t total) {
    progress.show("merging:", done >> 20, total >> 20, "MiB");
  };
  const InterruptWatch interrupt;
  options.cancelled = [&interrupt] { return interrupt.requested(); };
  LoraMergeReport report;
  try {
    report = merge_lora_model(find_model(command.model), command.adapter, command.out, options);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kCancelled) throw;
    progress.clear();
    write_stderr(fmt::format("vl2 lora: {}\n", error.what()));
    return kExitInterrupted;
  }
  progress.clear();
  if (command.json) {
    const ordered_json out = {{"model", command.out},  {"tensors", report.tensors}, {"merged", report.merged},
                              {"bytes", report.bytes}, {"rank", report.rank},       {"scale", report.scale}};
    write_stdout(out.dump(2) + "\n");
  } else {
    write_stdout(printable(fmt::format("{}: {}, {} of {} tensors changed (rank {}, scale {:g})\n", command.out,
                                       format_bytes(report.bytes), report.merged, report.tensors, report.rank,
                                       static_cast<double>(report.scale))));
  }
  return kExitOk;
}

}  // namespace

RunCommand declare_lora(CLI::App& app) {
  const auto options = std::make_shared<LoraCommandOptions>();
  app.add_option("action", options->action, "merge")
      ->type_name("ACTION")
      ->required()
      ->check(CLI::IsMember({"merge"}).description(""));
  app.add_option("model", options->model, "The model the adapter was trained on, as -m of other commands")
      ->type_name("MODEL")
      ->required();
  app.add_option("adapter", options->adapter, "The folder with adapter_config.json and adapter_model.safetensors")
      ->type_name("ADAPTER")
      ->required();
  app.add_option("-o,--output", options->out, "The folder to write, which must be new or empty")
      ->type_name("OUT")
      ->required();
  app.add_option("--shard-size", options->shard_gib, "Files of at most so many GiB")
      ->type_name("GIB")
      ->check(CLI::Range(0.001, 1024.0).description(""));
  app.add_option("--threads", options->threads, "Threads (default: every core this process may use)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024).description(""));
  app.add_flag("--force", options->force, "Replace the model in OUT; all of the folder is deleted");
  app.add_flag("--json", options->json, "The report as one JSON object; sizes in bytes");
  app.footer(
      "OUT answers exactly as `vl2 ask -m MODEL --lora ADAPTER` does, and is a model folder like any other: it can be\n"
      "quantised, or trained further. It appears when it is whole.\n\n"
      "Example:\n  vl2 lora merge models/nano runs/lora/latest -o nano-tuned\n  vl2 ask -m nano-tuned -i picture.png "
      "\"What is this?\"");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli

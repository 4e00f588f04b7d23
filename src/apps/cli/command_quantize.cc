// vl2 quantize: a smaller model that the same program runs.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/calibrate.h"
#include "apps/cli/commands.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/progress_line.h"
#include "apps/cli/terminal.h"
#include "core/checkpoint/quantize.h"
#include "engine/runtime/memory_plan.h"

namespace vl2::cli {
namespace {

using nlohmann::ordered_json;

struct QuantizeCommandOptions {
  std::string in, out, format = "q4", calibrate;
  double shard_gib = 4;
  int threads = 0;
  bool force = false, json = false;
};

std::string report_text(const QuantizeReport& report, const std::string& out) {
  std::string text =
      fmt::format("{:<26}{:>10}{:>15}{:>12}{:>16}\n", "part", "format", "weights", "size", "relative error");
  for (const QuantizedPart& part : report.parts)
    text += fmt::format("{:<26}{:>10}{:>15}{:>12}{:>16}\n", part.name, part.format, part.weights,
                        format_bytes(part.bytes), part.square > 0 ? fmt::format("{:.2e}", part.relative_error()) : "-");
  return text + fmt::format("{}: {} instead of {}, {:.2f} bits a weight\n", out, format_bytes(report.bytes_after),
                            format_bytes(report.bytes_before), report.bits_per_weight());
}

ordered_json report_json(const QuantizeReport& report, const QuantizeCommandOptions& options) {
  ordered_json parts = ordered_json::array();
  for (const QuantizedPart& part : report.parts) {
    ordered_json item = {
        {"name", part.name}, {"format", part.format}, {"weights", part.weights}, {"bytes", part.bytes}};
    if (part.square > 0) item["relative_error"] = part.relative_error();
    parts.push_back(std::move(item));
  }
  return {{"model", options.out},
          {"format", options.format},
          {"bytes_before", report.bytes_before},
          {"bytes_after", report.bytes_after},
          {"weights", report.weights},
          {"bits_per_weight", report.bits_per_weight()},
          {"parts", std::move(parts)}};
}

int run(const QuantizeCommandOptions& command) {
  QuantizeOptions options;
  options.format = parse_model_format(command.format).value();
  options.max_shard_bytes = static_cast<uint64_t>(command.shard_gib * static_cast<double>(1 << 30));
  options.num_threads = command.threads;
  options.replace = command.force;
  ProgressLine progress("quantize");
  options.progress = [&progress](int64_t done, int64_t total) {
    progress.show("quantising:", done >> 20, total >> 20, "MiB");
  };
  const InterruptWatch interrupt;
  options.cancelled = [&interrupt] { return interrupt.requested(); };
  const std::filesystem::path in = find_model(command.in);
  if (!command.calibrate.empty()) {
    if (options.format == ModelFormat::kQ8)
      throw UsageError("--calibrate is for q4 and mixed: 8 bits have no scale that could be chosen");
    options.importance = [&, conversations = read_conversations(command.calibrate)] {
      return calibrate(in, options.format, conversations, command.threads, progress, options.cancelled);
    };
  }
  QuantizeReport report;
  try {
    report = quantize_model(in, command.out, options);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kCancelled) throw;
    progress.clear();
    write_stderr(fmt::format("vl2 quantize: {}\n", error.what()));
    return kExitInterrupted;
  }
  progress.clear();
  write_stdout(command.json ? report_json(report, command).dump(2) + "\n"
                            : printable(report_text(report, command.out)));
  return kExitOk;
}

}  // namespace

RunCommand declare_quantize(CLI::App& app) {
  const auto options = std::make_shared<QuantizeCommandOptions>();
  app.add_option("in", options->in, "The model, as -m of other commands")->type_name("IN")->required();
  app.add_option("out", options->out, "The folder to write, which must be new or empty")->type_name("OUT")->required();
  app.add_option("--format", options->format,
                 "q8: 8 bits everywhere; q4: the language model in 4; mixed: only the routed experts in 4, pictures in "
                 "bf16")
      ->type_name("q4|q8|mixed")
      ->check(CLI::IsMember({"q8", "q4", "mixed"}).description(""));
  app.add_option("--calibrate", options->calibrate,
                 "Conversations with pictures, one JSON object a line as `vl2 prompt` takes it: the model is run over "
                 "them, and errors weigh by what they meet")
      ->type_name("FILE.jsonl");
  app.add_option("--shard-size", options->shard_gib, "Files of at most so many GiB")
      ->type_name("GIB")
      ->check(CLI::Range(0.001, 1024.0).description(""));
  app.add_option("--threads", options->threads, "Threads (default: every core this process may use)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024).description(""));
  app.add_flag("--force", options->force, "Replace the model in OUT; all of the folder is deleted");
  app.add_flag("--json", options->json, "The report as one JSON object; sizes in bytes");
  app.footer(
      "OUT is a model folder like IN, with the tokenizer and whatever else IN has beside the weights, and works with\n"
      "every command. It appears when it is whole. Errors are root mean squares, relative to that of the weights.\n\n"
      "Example:\n  vl2 quantize deepseek-ai/deepseek-vl2-small small-q4 --format q4\n  vl2 ask -m small-q4 -i "
      "picture.jpg \"What is this?\"");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli

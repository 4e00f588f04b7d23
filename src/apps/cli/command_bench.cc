// vl2 bench: how fast the model's work is here, next to what this machine could do at most.
#include <CLI/CLI.hpp>
#include <memory>

#include "apps/cli/bench_run.h"
#include "apps/cli/commands.h"
#include "apps/cli/model_files.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/options.h"
#include "apps/cli/progress_line.h"
#include "apps/cli/terminal.h"

namespace vl2::cli {
namespace {

struct BenchCommandOptions {
  std::string work = "all", model, format = "bf16";
  BenchOptions bench;
  ComputeOptions compute;
  bool json = false;
};

int run(BenchCommandOptions options) {
  if (options.work != "all") options.bench.work = {options.work};
  DType weights = DType::kBF16;
  if (options.bench.preset.empty()) {
    options.bench.model = find_model(options.model);
    weights = ModelFiles(options.bench.model).matrix_type;
    if (weights != DType::kBF16)
      fail(ErrorCode::kUnsupported, "{} stores its matrices as {}; bench knows bf16", options.bench.model.string(),
           dtype_name(weights));
  }
  options.bench.backend = options.compute.backend;
  options.bench.compute = options.compute.backend_options(weights);
  ProgressLine progress("bench");
  const BenchReport report = run_bench(options.bench, [&](const std::string& work, int64_t done, int64_t total) {
    progress.show(work, done, total, work == "load" ? "tensors" : "repeats");
  });
  progress.clear();
  write_stdout(options.json ? bench_json(report) : bench_text(report));
  return kExitOk;
}

}  // namespace

RunCommand declare_bench(CLI::App& app) {
  const auto options = std::make_shared<BenchCommandOptions>();
  BenchOptions& bench = options->bench;
  app.add_option("work", options->work, "What to time (default: all)")
      ->check(CLI::IsMember({"vision", "prefill", "decode", "all"}))
      ->type_name("WORK");
  add_model_option(app, options->model);
  app.add_option("--preset", bench.preset, "Instead of a model: the shapes of a released one, with random weights")
      ->check(CLI::IsMember({"tiny", "small", "base"}))
      ->type_name("NAME")
      ->excludes("--model");
  app.add_option("--layers", bench.layers, "Only the first N layers of the language model, where memory is short")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  app.add_option("--format", options->format, "What the weights are stored as: bf16")
      ->check(CLI::IsMember({"bf16"}))
      ->type_name("FORMAT");
  app.add_option("--tiles", bench.tiles, "vision: tiles of the picture, the global view included (10)")->type_name("N");
  app.add_option("--tokens", bench.tokens, "prefill: tokens of the prompt (1024)")->type_name("N");
  app.add_option("--context", bench.context, "decode: tokens already in the cache (0)")->type_name("N");
  app.add_option("--generated", bench.generated, "decode: tokens of one repeat (32)")->type_name("N");
  app.add_option("--repeats", bench.repeats, "Measured repeats, after one that is not (5)")->type_name("N");
  add_compute_options(app, options->compute);
  app.add_flag("--json", options->json, "The same as one JSON object");
  app.footer(
      "Every repeat stands beside a measurement of the machine's limits. share = floor / median, where the floor of\n"
      "vision and prefill is their arithmetic at the peak of the unit that computes it, and that of decode is the "
      "bytes\n"
      "of active weights and cache at the speed all cores together read memory.\n\n"
      "Example:\n  vl2 bench decode --preset tiny\n  vl2 bench vision --preset base --layers 1 --json");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli

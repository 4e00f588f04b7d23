// vl2 bench: how fast the model's work is here, next to what this machine could do at most.
#include <CLI/CLI.hpp>
#include <memory>

#include "apps/cli/bench_compare.h"
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
  std::vector<std::string> compare;
  bool json = false, force = false;
};

int compare(const BenchCommandOptions& options) {
  const SavedBench a = read_bench(options.compare[0]), b = read_bench(options.compare[1]);
  const std::vector<BenchChange> changes = compare_bench(a, b, options.force);
  write_stdout(options.json ? compare_json(a, b, changes) : compare_text(a, b, changes));
  return kExitOk;
}

int run(BenchCommandOptions options) {
  if (!options.compare.empty()) return compare(options);
  options.bench.format = *parse_model_format(options.format);
  if (options.work != "all") options.bench.work = {options.work};
  DType weights = DType::kBF16;
  if (options.work == "load" && !options.bench.preset.empty())
    throw UsageError("load opens a model's folder; it has none for --preset");
  if (options.work == "load" && options.bench.layers > 0)
    throw UsageError("load opens a whole model; --layers is for the other work");
  if (options.bench.preset.empty()) {
    options.bench.model = find_model(options.model);
    const ModelFiles files(options.bench.model);
    weights = files.matrix_type;
    options.bench.format = files.config.quantization.value_or(ModelFormat::kBf16);
    if (weights != DType::kBF16)
      fail(ErrorCode::kUnsupported, "{} stores its matrices as {}; bench knows bf16", options.bench.model.string(),
           dtype_name(weights));
  }
  options.bench.backend = options.compute.backend;
  options.bench.compute = options.compute.backend_options(weights, options.bench.format != ModelFormat::kBf16);
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
  app.add_option("work", options->work, "What to time (default: all but load)")
      ->check(CLI::IsMember({"vision", "prefill", "decode", "load", "all"}))
      ->type_name("WORK");
  add_model_option(app, options->model);
  CLI::Option* preset =
      app.add_option(
             "--preset", bench.preset,
             "Instead of a model: random weights of the shapes of tiny, small or base (or toys: test-tiny, ...)")
          ->check(CLI::IsMember({"tiny", "small", "base", "test-tiny", "test-small", "test-base"}).description(""))
          ->type_name("NAME")
          ->excludes("--model");
  app.add_option("--layers", bench.layers, "Only the first N layers of the language model, where memory is short")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  app.add_option("--format", options->format, "What the random weights are stored as: bf16 (default), q8, q4, mixed")
      ->check(CLI::IsMember({"bf16", "q8", "q4", "mixed"}).description(""))
      ->type_name("FORMAT")
      ->needs(preset);
  app.add_option("--tiles", bench.tiles, "vision: tiles of the picture, the global view included (10)")->type_name("N");
  const auto list = [&app](const char* name, std::vector<int64_t>& values, const std::string& help) {
    app.add_option(name, values, help)->type_name("N,N,...")->delimiter(',')->allow_extra_args(false);
  };
  list("--tokens", bench.tokens, "prefill: tokens of the prompt, one length or several (1024)");
  list("--context", bench.context, "decode: tokens already in the cache, one number or several (0)");
  list("--batch", bench.batch, "decode: sequences that answer together, one number or several (1)");
  app.add_option("--generated", bench.generated, "decode: tokens of each sequence in one repeat (32)")->type_name("N");
  app.add_option("--repeats", bench.repeats, "Measured repeats, after one that is not (5)")->type_name("N");
  app.add_flag("--ops", bench.ops, "One more turn of each work, operation by operation");
  add_compute_options(app, options->compute);
  CLI::Option* saved =
      app.add_option("--compare", options->compare, "Measure nothing: put two saved --json reports side by side")
          ->expected(2)
          ->type_name("A.json B.json");
  app.add_flag("--force", options->force, "Compare reports of different models or machines, too")->needs(saved);
  app.add_flag("--json", options->json, "The same as one JSON object");
  app.footer(
      "Every repeat stands between two measurements of the machine's limits. share = floor / time, where the floor is\n"
      "the larger of the arithmetic at the peak of the unit that computes it, and the bytes of weights and cache at "
      "the\n"
      "speed all cores together read memory.\n\n"
      "Example:\n  vl2 bench decode --preset tiny --context 0,1024 --batch 1,8\n"
      "  vl2 bench prefill --preset tiny --tokens 512,2048 --ops\n"
      "  vl2 bench vision --preset base --layers 1 --json\n"
      "  vl2 bench --compare before.json after.json");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli

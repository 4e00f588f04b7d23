// vl2 drift: where two models, or one model under two settings, part.
#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/commands.h"
#include "apps/cli/drift_cases.h"
#include "apps/cli/model_files.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/options.h"
#include "apps/cli/progress_line.h"
#include "apps/cli/terminal.h"
#include "apps/cli/trace_input.h"
#include "engine/backends.h"
#include "engine/model/deepseek_vl2.h"
#include "engine/model/trace_drift.h"

namespace vl2::cli {
namespace {

using nlohmann::ordered_json;
using Trace = std::vector<TraceTensor>;

struct Side {
  std::string model, backend = "auto", compute = "auto", cache = "auto";
};

struct DriftOptions {
  Side a, b;
  std::vector<std::string> requests;
  PictureOptions pictures;
  int64_t generate = 32;
  double threshold = 0.01;
  int threads = 0;
  bool layer_details = false, json = false;
};

struct Outcome {
  std::string model_a, model_b, ops_a, ops_b;
  size_t requests = 0;
  DriftReport report;
};

ComputeOptions compute_of(const Side& side, int threads) { return {side.backend, side.compute, side.cache, threads}; }

std::vector<TraceCase> cases_of(const DriftOptions& options, const ModelFiles& model) {
  if (options.requests.empty()) return built_in_cases(model);
  std::vector<TraceCase> cases;
  for (const std::string& request : options.requests)
    cases.push_back(case_of_request(request, model, options.pictures));
  return cases;
}

// What a prompt depends on, and what decides which stages there are.
void check_same_shape(const ModelFiles& a, const ModelFiles& b) {
  ModelConfig x = a.config, y = b.config;
  x.quantization = y.quantization = std::nullopt;
  x.torch_dtype = y.torch_dtype;
  if (x != y)
    fail(ErrorCode::kInvalidArgument, "{} and {} are of different architectures; name two forms of one model",
         a.folder.string(), b.folder.string());
}

// One model at a time is in memory. `teacher`: the answers to go along with; empty: its own.
std::vector<Trace> run_side(const ModelFiles& model, const Side& side, const DriftOptions& options,
                            const std::vector<TraceCase>& cases, const std::vector<Trace>& teacher, const char* name,
                            ProgressLine& progress, std::string& description) {
  const Placement placement = place_cases(model, cases, compute_of(side, options.threads), options.generate);
  const auto ops = make_ops(placement.backend, placement.compute);
  description = ops->description();
  CheckpointSource source(model.checkpoint);
  const DeepseekVl2 vl2(model.config, *ops, source, [&](int64_t done, int64_t total) {
    progress.show(fmt::format("loading {}:", name), done, total, "tensors");
  });
  std::vector<Trace> traces;
  for (size_t i = 0; i < cases.size(); ++i) {
    progress.show(fmt::format("running {}:", name), static_cast<int64_t>(i) + 1, static_cast<int64_t>(cases.size()),
                  "requests");
    TraceOptions trace;
    trace.layer_details = options.layer_details;
    if (options.generate > 0) {
      TraceGeneration generation = {"gen", options.generate, 1.0f, {}};
      if (!teacher.empty()) {
        for (const TraceTensor& tensor : teacher[i])
          if (tensor.name == "gen.tokens") {
            const auto* tokens = tensor.view().as<int64_t>();
            generation.teacher.assign(tokens, tokens + options.generate);
          }
      }
      trace.generations = {std::move(generation)};
    }
    traces.push_back(run_trace_case(vl2, cases[i], trace));
  }
  return traces;
}

std::string percent(int64_t part, int64_t whole) {
  return fmt::format("{:.1f} %", whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0.0);
}

std::string logits_text(const LogitDrift& drift) {
  return fmt::format("KL mean {:.2e}, max {:.2e}; the same best token in {} of {} rows ({})", drift.mean_kl,
                     drift.max_kl, drift.same_best, drift.rows, percent(drift.same_best, drift.rows));
}

std::string report_text(const Outcome& outcome, double threshold) {
  const DriftReport& report = outcome.report;
  std::string out = fmt::format("A  {}, {}\nB  {}, {}\n{} request{}\n\n{:<26}{:>16}{:>16}\n", outcome.model_a,
                                outcome.ops_a, outcome.model_b, outcome.ops_b, outcome.requests,
                                outcome.requests == 1 ? "" : "s", "stage", "relative error", "largest");
  for (const StageDrift& stage : report.stages)
    out += fmt::format("{:<26}{:>16.2e}{:>16.2e}\n", stage.name, stage.relative_error, stage.largest);
  const StageDrift* first = report.first_above(threshold);
  out += fmt::format("\nfirst above {}: {}\n", threshold, first != nullptr ? first->name : "none");
  for (const RouterDrift& router : report.routers)
    out += fmt::format("router of layer {}: {} of {} tokens go to other experts ({})\n", router.layer, router.differing,
                       router.tokens, percent(router.differing, router.tokens));
  out += "prompts: " + logits_text(report.prompt) + "\n";
  if (report.answers.empty()) return out;
  out += "answers: " + logits_text(report.answer) + "\n";
  size_t same = 0;
  std::string differences;
  for (size_t i = 0; i < report.answers.size(); ++i) {
    const AnswerDrift& answer = report.answers[i];
    same += answer.first_difference ? 0 : 1;
    if (answer.first_difference)
      differences +=
          fmt::format("  request {}: from token {} of {} on\n", i + 1, *answer.first_difference + 1, answer.tokens);
  }
  return out + fmt::format("{} of {} answers are the same\n", same, report.answers.size()) + differences;
}

ordered_json number(double x) { return std::isfinite(x) ? ordered_json(x) : ordered_json(nullptr); }

ordered_json logits_json(const LogitDrift& drift) {
  return {{"rows", drift.rows},
          {"mean_kl", number(drift.mean_kl)},
          {"max_kl", number(drift.max_kl)},
          {"same_best", drift.same_best}};
}

ordered_json report_json(const Outcome& outcome, double threshold) {
  const DriftReport& report = outcome.report;
  ordered_json stages = ordered_json::array(), routers = ordered_json::array(), answers = ordered_json::array();
  for (const StageDrift& stage : report.stages)
    stages.push_back(
        {{"name", stage.name}, {"relative_error", number(stage.relative_error)}, {"largest", number(stage.largest)}});
  for (const RouterDrift& router : report.routers)
    routers.push_back({{"layer", router.layer}, {"tokens", router.tokens}, {"differing", router.differing}});
  for (const AnswerDrift& answer : report.answers)
    answers.push_back({{"tokens", answer.tokens},
                       {"first_difference",
                        answer.first_difference ? ordered_json(*answer.first_difference) : ordered_json(nullptr)}});
  const StageDrift* first = report.first_above(threshold);
  return {{"a", {{"model", outcome.model_a}, {"backend", outcome.ops_a}}},
          {"b", {{"model", outcome.model_b}, {"backend", outcome.ops_b}}},
          {"requests", outcome.requests},
          {"stages", std::move(stages)},
          {"threshold", threshold},
          {"first_above", first != nullptr ? ordered_json(first->name) : ordered_json(nullptr)},
          {"routers", std::move(routers)},
          {"prompt_logits", logits_json(report.prompt)},
          {"answer_logits", logits_json(report.answer)},
          {"answers", std::move(answers)}};
}

int run(const DriftOptions& options) {
  const bool one_model = options.b.model.empty();
  if (one_model && options.a.backend == options.b.backend && options.a.compute == options.b.compute &&
      options.a.cache == options.b.cache)
    throw UsageError("A and B are the same: name a second model, or give --compute-b, --cache-b or --backend-b");
  const ModelFiles a(find_model(options.a.model)), b(one_model ? a.folder : find_model(options.b.model));
  check_same_shape(a, b);
  const std::vector<TraceCase> cases = cases_of(options, a);
  Outcome outcome = {a.folder.string(), b.folder.string(), "", "", cases.size(), {}};
  ProgressLine progress("drift");
  const std::vector<Trace> traces_a = run_side(a, options.a, options, cases, {}, "A", progress, outcome.ops_a);
  const std::vector<Trace> traces_b = run_side(b, options.b, options, cases, traces_a, "B", progress, outcome.ops_b);
  DriftMeter meter(a.config.language.eos_token_id);
  for (size_t i = 0; i < cases.size(); ++i) meter.add(cases[i], traces_a[i], traces_b[i]);
  outcome.report = meter.report();
  progress.clear();
  write_stdout(options.json ? report_json(outcome, options.threshold).dump(2) + "\n"
                            : printable(report_text(outcome, options.threshold)));
  return kExitOk;
}

void add_side(CLI::App& app, Side& side, const std::string& name) {
  std::vector<std::string> backends = {"auto"};
  for (const std::string_view backend : backend_names()) backends.emplace_back(backend);
  app.add_option("--backend-" + name, side.backend, "What computes " + name + ", as --backend elsewhere")
      ->type_name("NAME")
      ->check(CLI::IsMember(backends).description(""));
  app.add_option("--compute-" + name, side.compute, "Arithmetic of " + name + ": f32, bf16 or auto (default)")
      ->type_name("TYPE")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}).description(""));
  app.add_option("--cache-" + name, side.cache, "Keys and values of " + name + ": f32, bf16, int8 or auto (default)")
      ->type_name("TYPE")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "int8"}).description(""));
}

}  // namespace

RunCommand declare_drift(CLI::App& app) {
  const auto options = std::make_shared<DriftOptions>();
  app.add_option("a", options->a.model, "Model A, as -m of other commands; what B is measured against")
      ->type_name("A")
      ->required();
  app.add_option("b", options->b.model, "Model B (default: A under other settings)")->type_name("B");
  add_side(app, options->a, "a");
  add_side(app, options->b, "b");
  app.add_option("--request", options->requests,
                 "A conversation with its pictures, as `vl2 prompt` takes it; may be repeated (default: a few built-in "
                 "questions; noise for a model without a tokenizer)")
      ->type_name("REQ.json")
      ->allow_extra_args(false);
  app.add_option("--generate", options->generate, "Compare answers of at most N tokens (default: 32)")
      ->type_name("N")
      ->check(CLI::Range(0, 1 << 16).description(""));
  app.add_option("--threshold", options->threshold, "Name the first stage with a larger relative error (default: 0.01)")
      ->type_name("X")
      ->check(CLI::Range(0.0, 1e9).description(""));
  app.add_flag("--layer-details", options->layer_details, "Also the parts of every decoder layer");
  app.add_option("--threads", options->threads, "Threads (default: every core this process may use)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024).description(""));
  app.add_flag("--json", options->json, "The same as one JSON object; null stands for infinity");
  add_picture_options(app, options->pictures);
  app.footer(
      "Errors are root mean squares, relative to A's values. Answers: B is given A's tokens and asked at each what it\n"
      "would have said.\n\n"
      "Example:\n  vl2 drift models/nano nano-q4\n  vl2 drift models/nano --compute-a f32 --compute-b bf16");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli

// vl2 eval: how often a model is right. `vl2 eval nano` asks the questions of a set that `vl2 data synth nano` made.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/commands.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/options.h"
#include "apps/cli/output_file.h"
#include "apps/cli/progress_line.h"
#include "apps/cli/terminal.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/image/decode.h"
#include "core/processor/processor.h"
#include "engine/runtime/engine.h"
#include "eval/nano_skills.h"

namespace vl2::cli {
namespace {

using nlohmann::ordered_json;

struct EvalOptions {
  std::string records, model, answers, out, compare;
  ComputeOptions compute;
  int64_t max_new_tokens = 256, parallel = 16, limit = 0;
  double margin = 2e-3;
  bool json = false;
};

// One question on its way.
struct Asked {
  std::string id;
  std::shared_ptr<TokenStream> stream;
};

eval::NanoAnswer finish(const Asked& asked) {
  eval::NanoAnswer answer{asked.id, "", std::nullopt};
  while (const std::optional<TokenEvent> event = asked.stream->next()) {
    answer.text += event->text;
    if (event->top.size() < 2) continue;
    const double gap = static_cast<double>(event->top[0].logprob) - static_cast<double>(event->top[1].logprob);
    if (std::isfinite(gap)) answer.margin = std::min(answer.margin.value_or(gap), gap);
  }
  return answer;
}

Request make_request(const eval::NanoRecord& record, const Processor& processor, const EvalOptions& options) {
  std::vector<Image> images;
  for (const std::filesystem::path& path : record.images) images.push_back(read_picture(path.string(), {}));
  std::vector<Message> messages = record.messages;
  messages.push_back({"assistant", ""});
  Request request;
  request.prompt = processor.build(messages, images);
  request.max_new_tokens = options.max_new_tokens;
  request.top_logprobs = 2;
  return request;
}

// In the order of the records; `parallel` of them at a time, so that the engine answers several in one step.
std::vector<eval::NanoAnswer> ask_all(const std::vector<eval::NanoRecord>& records, const EvalOptions& options,
                                      ProgressLine& progress) {
  const std::filesystem::path folder = find_model(options.model);
  const auto processor = std::make_shared<const Processor>(Processor::open(folder));
  EngineOptions engine_options;
  engine_options.backend = options.compute.backend;
  engine_options.compute = options.compute.backend_options(DType::kBF16, false);  // the engine looks at what is stored
  engine_options.max_sequences = options.parallel;
  const int64_t context = load_model_config(folder / "config.json").language.max_position_embeddings;
  // Questions are short; a few long ones only have fewer beside them.
  engine_options.max_cached_tokens = std::max(context, options.parallel * (512 + options.max_new_tokens));
  const auto engine = Engine::open(folder, std::move(engine_options), processor);
  std::vector<eval::NanoAnswer> answers;
  std::deque<Asked> asked;
  const auto take_first = [&] {
    answers.push_back(finish(asked.front()));
    asked.pop_front();
    progress.show("asking:", std::ssize(answers), std::ssize(records), "questions");
  };
  for (const eval::NanoRecord& record : records) {
    // Twice as many as run: the next prompts are ready when an answer ends.
    if (std::ssize(asked) >= 2 * options.parallel) take_first();
    try {
      asked.push_back({record.id, engine->submit(make_request(record, *processor, options))});
    } catch (const Error& error) {
      fail(error.code(), "record {}: {}", record.id, error.what());
    }
  }
  while (!asked.empty()) take_first();
  progress.clear();
  return answers;
}

ordered_json skill_json(const eval::SkillScore& s) {
  ordered_json out = {{"skill", s.task},
                      {"questions", s.questions},
                      {"answered", s.answered},
                      {"right", s.share_right()},
                      {"exact", eval::SkillScore::share(s.exact, s.questions)}};
  if (s.boxes > 0) {
    out["boxes"] = s.boxes;
    out["boxes_found"] = eval::SkillScore::share(s.boxes_found, s.boxes);
    out["mean_iou"] = s.mean_iou();
  }
  return out;
}

ordered_json report_json(const eval::NanoScores& scores, const std::optional<eval::AnswerAgreement>& agreement) {
  ordered_json out;
  out["skills"] = ordered_json::array();
  for (const eval::SkillScore& skill : scores.skills) out["skills"].push_back(skill_json(skill));
  out["all"] = skill_json(scores.all);
  out["unknown_ids"] = scores.unknown_ids;
  if (agreement)
    out["agreement"] = {{"common", agreement->common},
                        {"equal", agreement->equal},
                        {"judged_alike", agreement->judged_alike},
                        {"threshold", agreement->threshold},
                        {"sure", agreement->sure},
                        {"sure_equal", agreement->sure_equal},
                        {"different_ids", agreement->different_ids}};
  return out;
}

std::string agreement_text(const eval::AnswerAgreement& a, const std::string& other) {
  const auto share = [](int64_t part, int64_t whole) { return 100 * eval::SkillScore::share(part, whole); };
  std::string text =
      fmt::format("{} of {} answers are those of {} ({:.2f} %)\n", a.equal, a.common, other, share(a.equal, a.common));
  text +=
      fmt::format("right in both or wrong in both: {} ({:.2f} %)\n", a.judged_alike, share(a.judged_alike, a.common));
  if (a.sure > 0)
    text += fmt::format("of those with a margin above {}: {} of {} ({:.2f} %)\n", a.threshold, a.sure_equal, a.sure,
                        share(a.sure_equal, a.sure));
  for (size_t i = 0; i < a.different_ids.size(); ++i) text += (i == 0 ? "different: " : ", ") + a.different_ids[i];
  if (!a.different_ids.empty()) text += "\n";
  return text;
}

int run(const EvalOptions& options) {
  if (!options.answers.empty() && !options.out.empty())
    throw UsageError("--answers scores what is there already, so there is nothing for --out to write");
  if (!options.answers.empty() && !options.model.empty()) throw UsageError("--answers needs no model: leave -m out");
  if (!options.out.empty()) check_writable(options.out);
  std::vector<eval::NanoRecord> records = eval::read_nano_records(options.records);
  if (options.limit > 0 && options.limit < std::ssize(records)) records.resize(static_cast<size_t>(options.limit));
  std::vector<eval::NanoAnswer> other;
  if (!options.compare.empty()) other = eval::read_nano_answers(options.compare);
  ProgressLine progress("eval");
  const std::vector<eval::NanoAnswer> answers =
      options.answers.empty() ? ask_all(records, options, progress) : eval::read_nano_answers(options.answers);
  if (!options.out.empty()) write_file_atomic(options.out, eval::format_nano_answers(answers));
  const eval::NanoScores scores = eval::score_nano(records, answers);
  std::optional<eval::AnswerAgreement> agreement;
  if (!options.compare.empty()) agreement = eval::compare_answers(records, answers, other, options.margin);
  if (options.json) {
    write_stdout(report_json(scores, agreement).dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n");
    return kExitOk;
  }
  std::string text = eval::scores_text(scores);
  if (agreement) text += agreement_text(*agreement, options.compare);
  write_stdout(printable(text));
  return kExitOk;
}

void add_options(CLI::App& app, EvalOptions& options) {
  app.add_option("records", options.records, "Records with one question each, made by vl2 data synth nano")
      ->type_name("RECORDS.jsonl")
      ->required();
  add_model_option(app, options.model);
  app.add_option("--answers", options.answers, "Score these answers (lines of id, answer, margin); ask nobody")
      ->type_name("ANSWERS.jsonl");
  app.add_option("--out", options.out, "Write the answers here")->type_name("ANSWERS.jsonl");
  app.add_option("--compare", options.compare, "How many answers are those of this file")->type_name("ANSWERS.jsonl");
  app.add_option("--margin", options.margin, "--compare: what margin makes an answer sure (default: 0.002)")
      ->type_name("X")
      ->check(CLI::Range(0.0, 1e9).description(""));
  app.add_option("--limit", options.limit, "Only the first N records")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 30).description(""));
  app.add_option("--parallel", options.parallel, "Questions answered at a time (default: 16)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024).description(""));
  app.add_option("--max-new-tokens", options.max_new_tokens, "Longest answer (default: 256)")
      ->type_name("N")
      ->check(CLI::Range(1, 4096).description(""));
  app.add_flag("--json", options.json, "The table as one JSON object");
  add_compute_options(app, options.compute);
}

}  // namespace

RunCommand declare_eval(CLI::App& app) {
  app.require_subcommand(1);
  CLI::App* nano = app.add_subcommand("nano", "The synthetic skills: colours, counts, boxes, reading, charts, ...");
  const auto options = std::make_shared<EvalOptions>();
  add_options(*nano, *options);
  nano->footer(
      "right: exact match; where boxes are asked for, as many as expected and each with IoU > 0.5; bar values within\n"
      "5 %. Answers are greedy.\n\n"
      "Example:\n  vl2 data synth nano --out sets/test --split test --records 2000 --questions one\n"
      "  vl2 eval nano sets/test/test.jsonl -m models/nano --out answers.jsonl");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli

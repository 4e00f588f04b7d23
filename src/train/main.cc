// vl2-train: what `vl2 train` starts. A program of its own, because libtorch is large and only training needs it.
#include <fmt/format.h>
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "core/base/available_memory.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/format_bytes.h"
#include "core/image/encode.h"
#include "train/log/curve.h"
#include "train/loop/answer_file.h"
#include "train/loop/run.h"

namespace vl2::train {
namespace {

// Set by SIGTERM, SIGUSR1 and the first Ctrl-C: a checkpoint is written and the program ends.
std::atomic<int> asked_to_stop{0};
static_assert(std::atomic<int>::is_always_lock_free);

void watch_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { asked_to_stop = 1; };
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
  action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);  // the second Ctrl-C ends the program at once
  sigaction(SIGINT, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

// What libraries read from the environment when they are loaded: hence the program starts again.
//   libgomp    its threads spin for milliseconds at the end of every region, which on a machine that does other things
//              too costs whole time slices of the one they wait for
//   OpenBLAS   its threads do as well; here it has the routers' small products only
//   tcmalloc   activations are freed and asked for again every step: kept, they need not be mapped and cleared anew
void set_environment(char** argv) {
  if (getenv("OMP_WAIT_POLICY") != nullptr || getenv("GOMP_SPINCOUNT") != nullptr) return;
  setenv("GOMP_SPINCOUNT", "10000", 1);
  setenv("OPENBLAS_NUM_THREADS", "1", 0);
  setenv("TCMALLOC_RELEASE_RATE", "0", 0);
  execv("/proc/self/exe", argv);  // if that fails, it is only slower
}

// The same where glibc allocates.
void keep_freed_memory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
}

// One line that is rewritten on a terminal; a plain one now and then elsewhere.
class Status {
 public:
  void show(const StepProgress& progress) {
    const auto now = std::chrono::steady_clock::now();
    const bool last = progress.step == progress.total;
    if (now < next_ && !last) return;
    next_ = now + (terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(20));
    std::fprintf(stderr, terminal_ ? "\r\033[K%s" : "%s\n", progress_text(progress).c_str());
    std::fflush(stderr);
    visible_ = terminal_;
  }
  void say(const std::string& line) {
    if (visible_) std::fputs("\r\033[K", stderr);
    visible_ = false;
    std::fprintf(stderr, "%s\n", line.c_str());
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  bool visible_ = false;
  std::chrono::steady_clock::time_point next_{};
};

int run_recipe(const std::string& file, const std::vector<std::string>& overrides, bool dry_run) {
  const Recipe recipe = load_recipe(file, overrides);
  std::fprintf(stderr, "%s", plan_memory(recipe).c_str());
  if (dry_run) return 0;
  watch_signals();
  Status status;
  const RunHooks hooks{.say = [&](const std::string& line) { status.say(line); },
                       .progress = [&](const StepProgress& progress) { status.show(progress); },
                       .stop = [] { return asked_to_stop != 0; }};
  const RunSummary summary = run_training(recipe, hooks);
  if (summary.last_step == summary.first_step) {
    status.say(fmt::format("{} step {} of {}; {}",
                           summary.stopped ? "stopped before a step was made, at" : "nothing is left to do after",
                           summary.last_step, summary.total_steps, summary.checkpoint));
    return 0;
  }
  status.say(
      fmt::format("{} after step {} of {}, loss {:.4f}, {:.1f} % of the time waiting for input, at most {} of "
                  "memory; {}",
                  summary.stopped ? "stopped" : "done", summary.last_step, summary.total_steps, summary.loss,
                  100 * summary.waited_share, format_bytes(peak_memory()), summary.checkpoint));
  return 0;
}

int run_curve(const std::vector<std::string>& logs, const std::string& key, double smoothing,
              const std::string& output) {
  std::vector<LogSeries> series;
  for (const std::string& log : logs) series.push_back(read_log(log, key, log));
  const Image image = draw_curves(series, {.title = key, .y_label = key, .smoothing = smoothing});
  write_file_atomic(output, encode_png(image));
  return 0;
}

int run_program(int argc, char** argv) {
  CLI::App app{
      "Trains DeepSeek-VL2: alignment, pre-training, SFT, LoRA.\n\n"
      "  vl2 train recipe.json                           from its first step, or on from its last checkpoint\n"
      "  vl2 train recipe.json learning_rate=1e-4        with some of it said otherwise\n"
      "  vl2 train curve runs/sft/log.jsonl -o loss.png  the loss as a picture",
      "vl2 train"};
  std::string recipe, output = "curve.png", key = "loss", model, records;
  std::vector<std::string> overrides, logs;
  double smoothing = 0.9;
  bool dry_run = false;
  app.add_option("recipe", recipe, "Recipe (JSON; docs/training.md)");
  app.add_option("overrides", overrides, "key.path=value instead of what the recipe says");
  app.add_flag("--dry-run", dry_run, "Say what memory it takes, and stop");
  app.require_subcommand(0, 1);

  CLI::App* curve = app.add_subcommand("curve", "Draw numbers of logs over the steps");
  curve->add_option("logs", logs, "log.jsonl files")->required();
  curve->add_option("-o,--output", output, "PNG file")->capture_default_str();
  curve->add_option("--key", key, "Which number")->capture_default_str();
  curve->add_option("--smoothing", smoothing, "0: none, towards 1: more")->capture_default_str();

  AnswerFileOptions answers;
  CLI::App* answer = app.add_subcommand("answer", "Let a model answer a file of records, by the trainer's own code");
  answer->add_option("model", model, "Model folder")->required();
  answer->add_option("records", records, "Records (JSONL)")->required();
  answer->add_option("-o,--output", answers.output, "Answers (JSONL)")->required();
  answer->add_option("--max-tokens", answers.max_tokens, "Of an answer")->capture_default_str();
  answer->add_flag("--bf16", answers.bf16, "Round what enters a product to bf16");
  answer->add_option("--lora", answers.lora, "Adapter folder");

  CLI11_PARSE(app, argc, argv);
  if (*curve) return run_curve(logs, key, smoothing, output);
  if (*answer) {
    answers.model = model;
    answers.records = records;
    answer_file(answers);
    return 0;
  }
  if (recipe.empty()) {
    std::fprintf(stderr, "%s", app.help().c_str());
    return 2;
  }
  return run_recipe(recipe, overrides, dry_run);
}

}  // namespace
}  // namespace vl2::train

int main(int argc, char** argv) {
  vl2::train::set_environment(argv);
  vl2::train::keep_freed_memory();
  try {
    return vl2::train::run_program(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "vl2 train: %s\n", error.what());
    return 1;
  }
}

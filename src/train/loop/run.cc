#include "train/loop/run.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <variant>

#include "core/base/available_memory.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/thread_pool.h"
#include "core/checkpoint/lora.h"
#include "core/dataset/dataset_file.h"
#include "core/image/encode.h"
#include "core/model_spec/train_memory.h"
#include "train/checkpoint/run_checkpoints.h"
#include "train/checkpoint/run_lock.h"
#include "train/input/loader.h"
#include "train/log/json_log.h"
#include "train/log/tensorboard.h"
#include "train/loop/answer_record.h"
#include "train/loop/train_step.h"
#include "train/loop/trained_model.h"
#include "train/model/device.h"
#include "train/recipe/parameter_rules.h"
#include "train/recipe/schedule.h"

namespace vl2::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

// Answers while training are short.
constexpr int64_t kAnswerTokens = 200;
// Weight of what came before in the time a step is said to take.
constexpr double kPaceSmoothing = 0.9;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

DType compute_type(const Recipe& recipe) { return recipe.compute == ComputeType::kBf16 ? DType::kBF16 : DType::kF32; }

// A recipe's name for a file's form, as people know it; nullopt: found out record by record.
std::optional<RecordFormat> format_of(const std::string& name) {
  if (name == "records" || name == "ms-swift") return RecordFormat::kMessages;
  return record_format(name);
}

LoaderOptions loader_options(const Recipe& recipe, const ModelConfig& config) {
  LoaderOptions options;
  for (const DataSource& source : recipe.data)
    options.sources.push_back({source.path, source.weight, source.image_root, format_of(source.format)});
  options.sample.max_length = recipe.max_length;
  options.sample.mask_prompt = recipe.mask_prompt;
  options.sample.label_pictures = recipe.label_pictures;
  options.sample.global_view_first = config.global_view_first;
  options.sample.drop_long = recipe.over_long == OverLong::kDrop;
  options.packing = recipe.packing;
  options.rows_per_batch = recipe.micro_batch;
  options.seed = static_cast<uint64_t>(recipe.seed);
  options.threads = static_cast<int>(recipe.workers);
  options.batches_ahead = std::max<int64_t>(4, recipe.batch_size / recipe.micro_batch);
  options.bad_records = recipe.bad_records == BadRecords::kSkip ? Policy::kSkip : Policy::kRefuse;
  return options;
}

// Rows of one epoch and how full they are. Only where the recipe counts in epochs or tokens: every record's headers are
// read for it.
DataSize measure_data(const Recipe& recipe, const Processor& processor) {
  DataSize size;
  if (recipe.steps) return size;
  int64_t samples = 0, tokens = 0;
  const LoaderOptions options = loader_options(recipe, recipe_config(recipe));
  for (const SourceOptions& source : options.sources) {
    const DatasetFile file(source.file, {.format = source.format, .image_root = source.image_root});
    for (int64_t i = 0; i < file.size(); ++i) {
      const auto record = file.read(i);
      if (!std::holds_alternative<TrainingRecord>(record)) continue;
      const auto sample = plan_sample(processor, std::get<TrainingRecord>(record), options.sample);
      if (!std::holds_alternative<Sample>(sample)) continue;
      ++samples;
      tokens += std::get<Sample>(sample).num_tokens();
    }
  }
  if (samples == 0) fail(ErrorCode::kInvalidArgument, "{}: none of the records can be used", recipe.name);
  size.sequences = recipe.packing ? (tokens + recipe.max_length - 1) / recipe.max_length : samples;
  size.tokens_per_sequence = static_cast<double>(tokens) / static_cast<double>(size.sequences);
  return size;
}

class Run {
 public:
  Run(const Recipe& recipe, const RunHooks& hooks)
      : recipe_(recipe),
        hooks_(hooks),
        output_(recipe.output),
        processor_(std::make_shared<const Processor>(Processor::open(recipe_tokenizer(recipe)))),
        total_(resolve_steps(recipe, measure_data(recipe, *processor_))),
        schedule_(recipe, total_),
        checkpoints_(output_, recipe.keep),
        model_(recipe) {
    if (static_cast<int64_t>(processor_->tokenizer().vocab_size()) > model_.config().language.vocab_size)
      fail(ErrorCode::kInvalidArgument, "{}: the tokenizer has {} tokens, the model's vocabulary {}", recipe.name,
           processor_->tokenizer().vocab_size(), model_.config().language.vocab_size);
  }

  RunSummary train() {
    if (recipe_.eval.every > 0)
      held_out_.emplace(fs::path(recipe_.eval.records));  // missing: said now, not hours later
    fs::create_directories(output_);
    const RunLock lock(output_);
    resume();
    write_file_atomic(output_ / "recipe.json", recipe_json(recipe_));
    JsonLog log(output_ / "log.jsonl", step_);
    EventWriter events(output_ / "events", step_);
    Loader loader(processor_, loader_options(recipe_, model_.config()), loader_state_ ? &*loader_state_ : nullptr);
    say(fmt::format("{}: {} steps of {} sequences, {} of {} million values are trained", recipe_.name, total_,
                    recipe_.batch_size, in_millions(model_.num_trained()), in_millions(total_values())));

    summary_.first_step = step_;
    summary_.total_steps = total_;
    int64_t saved = step_;
    while (step_ < total_) {
      if (hooks_.stop && hooks_.stop()) {
        summary_.stopped = true;
        break;
      }
      const Clock::time_point start = Clock::now();
      const std::vector<MicroBatch> batches = next_batches(loader);
      const double rate = schedule_.at(step_);
      const StepResult result =
          train_step(model_.replicas(), model_.parameters(), model_.optimizer(), batches, rate, step_options());
      ++step_;
      loader_state_ = loader.state();
      note(result);
      const StepProgress progress = progress_of(result, rate, seconds_since(start), loader.stats());
      if (step_ % recipe_.log_every == 0 || step_ == total_ || result.skipped) write_log(log, events, result, progress);
      if (hooks_.progress) hooks_.progress(progress);
      if (recipe_.eval.every > 0 && step_ % recipe_.eval.every == 0) answer_questions(events);
      if (recipe_.save_every > 0 && step_ % recipe_.save_every == 0) {
        save();
        saved = step_;
      }
    }
    if (saved != step_ || summary_.checkpoint.empty()) save();
    summary_.last_step = step_;
    summary_.skipped = skipped_;
    summary_.waited_share = loader.stats().waited_share();
    const std::string left_out = loader_state_ ? loader_state_->report.text() : "";
    if (!left_out.empty()) {
      write_file_atomic(output_ / "left_out.txt", left_out);
      say(left_out);
    }
    return summary_;
  }

 private:
  void say(const std::string& line) const {
    if (hooks_.say) hooks_.say(line);
  }

  static std::string in_millions(int64_t count) { return fmt::format("{:.2f}", static_cast<double>(count) * 1e-6); }
  int64_t total_values() const { return count_parameters(model_.config()).total; }

  StepOptions step_options() const {
    StepOptions options;
    options.forward.compute = compute_type(recipe_);
    options.forward.aux_loss_alpha = recipe_.aux_loss_alpha;
    options.forward.seq_aux = recipe_.seq_aux;
    const int64_t blocks = recipe_.recompute.vision_blocks;
    options.forward.recompute_vision_blocks = blocks < 0 ? model_.config().vision.layers : blocks;
    options.forward.recompute_layers = recipe_.recompute.language;
    options.forward.dropout_seed = static_cast<uint64_t>(recipe_.seed);
    options.gradient_clip = recipe_.grad_clip;
    options.expert_bias_step = recipe_.expert_bias_step;
    options.forward.whole_rows = training_device(recipe_.device).is_cuda();
    return options;
  }

  std::vector<MicroBatch> next_batches(Loader& loader) const {
    std::vector<MicroBatch> batches;
    for (int64_t rows = 0; rows < recipe_.batch_size; rows += recipe_.micro_batch) {
      std::optional<MicroBatch> batch = loader.next();
      VL2_CHECK(batch.has_value(), "the sources came to an end");
      batches.push_back(std::move(*batch));
    }
    return batches;
  }

  // Counts what was skipped; gives up after too many in a row.
  void note(const StepResult& result) {
    if (!result.skipped) {
      bad_in_a_row_ = 0;
      summary_.loss = result.loss;
      return;
    }
    ++skipped_;
    say(fmt::format("step {} skipped: {}", step_, result.reason));
    if (++bad_in_a_row_ < recipe_.max_bad_steps) return;
    fail(
        ErrorCode::kInvalidArgument,
        "{} steps in a row were not finite, the last at step {}: {}; look at these records, or lower the learning rate",
        bad_in_a_row_, step_, result.reason);
  }

  StepProgress progress_of(const StepResult& result, double rate, double seconds, const LoaderStats& stats) {
    pace_ = pace_ == 0 ? seconds : kPaceSmoothing * pace_ + (1 - kPaceSmoothing) * seconds;
    return {.step = step_,
            .total = total_,
            .loss = result.loss,
            .learning_rate = rate,
            .tokens_per_second = static_cast<double>(result.tokens) / seconds,
            .tiles_per_second = static_cast<double>(result.tiles) / seconds,
            .seconds_per_step = pace_,
            .waiting = stats.waited_share(),
            .skipped = skipped_};
  }

  void write_log(JsonLog& log, EventWriter& events, const StepResult& result, const StepProgress& progress) const {
    const std::pair<const char*, double> numbers[] = {{"loss", result.loss},
                                                      {"aux_loss", result.aux_loss},
                                                      {"learning_rate", progress.learning_rate},
                                                      {"gradient_norm", result.gradient_norm},
                                                      {"max_violation", result.max_violation},
                                                      {"tokens", static_cast<double>(result.tokens)},
                                                      {"supervised", static_cast<double>(result.supervised)},
                                                      {"samples", static_cast<double>(result.samples)},
                                                      {"tiles", static_cast<double>(result.tiles)},
                                                      {"tokens_per_second", progress.tokens_per_second},
                                                      {"tiles_per_second", progress.tiles_per_second},
                                                      {"waiting", progress.waiting},
                                                      {"skipped", static_cast<double>(skipped_)}};
    Json line = {{"step", step_}};
    std::vector<Scalar> scalars;
    for (const auto& [name, value] : numbers) {
      line[name] = value;
      if (std::isfinite(value)) scalars.push_back({std::string("train/") + name, value});
    }
    log.write(line);
    events.scalars(step_, scalars);
  }

  // The first held-out records, asked as they are. What is wrong with one of them does not end a run.
  void answer_questions(EventWriter& events) const {
    const DatasetFile& records = *held_out_;
    const fs::path folder = output_ / "samples";
    fs::create_directories(folder);
    std::string lines;
    int64_t right = 0, asked = 0;
    for (int64_t i = 0; i < std::min(recipe_.eval.count, records.size()); ++i) {
      const auto record = records.read(i);
      if (const auto* bad = std::get_if<BadRecord>(&record)) {
        say(fmt::format("not asked: {}: {}", bad->where, bad->reason));
        continue;
      }
      RecordAnswer answer;
      try {
        answer = answer_record(model_.model(), *processor_, std::get<TrainingRecord>(record), kAnswerTokens,
                               compute_type(recipe_));
      } catch (const Error& error) {
        say(fmt::format("not asked: {}", error.what()));
        continue;
      }
      ++asked;
      right += answer.answer == answer.expected ? 1 : 0;
      lines += answer_json(answer) + "\n";
      const std::optional<Image> drawn = recipe_.eval.draw_boxes ? draw_answer(answer) : std::nullopt;
      if (!drawn) continue;
      write_file_atomic(folder / fmt::format("step-{:06}-{}.png", step_, i), encode_png(*drawn));
      events.image(step_, fmt::format("answers/{}", i), *drawn);
    }
    write_file_atomic(folder / fmt::format("step-{:06}.jsonl", step_), lines);
    if (asked == 0) return;
    events.scalars(step_, {{"eval/exact", static_cast<double>(right) / static_cast<double>(asked)}});
    say(fmt::format("step {}: {} of {} answers are as expected", step_, right, asked));
  }

  void save() {
    const Json state = {{"step", step_},
                        {"total_steps", total_},
                        {"optimizer_steps", model_.optimizer().steps()},
                        {"skipped", skipped_},
                        {"loader", loader_state_ ? Json::parse(to_json(*loader_state_)) : Json(nullptr)}};
    CheckpointContent content;
    content.write_model = [&](const fs::path& folder) { model_.save(folder); };
    const TrainedState moving = model_.state();
    content.tensors = moving.tensors;
    content.state_json = state.dump(1);
    content.files_from = recipe_tokenizer(recipe_);
    checkpoints_.write(step_, content);
    summary_.checkpoint = checkpoints_.folder_of(step_).string();
  }

  void resume() {
    const auto found = checkpoints_.load(model_.config(), [&](const std::string& warning) { say(warning); });
    if (!found) return;
    const std::string where = (found->folder / "state.json").string();
    const nlohmann::json state = parse_json(found->state_json, where);
    const JsonObject object(state, where);
    constexpr int64_t kMany = int64_t{1} << 53;
    step_ = object.integer("step", 0, 0, kMany);
    skipped_ = object.integer("skipped", 0, 0, kMany);
    if (const nlohmann::json* loader = object.find("loader"); loader != nullptr && !loader->is_null())
      loader_state_ = parse_loader_state(loader->dump(), where);
    model_.restore(*found->tensors, object.integer("optimizer_steps", 0, 0, kMany));
    summary_.checkpoint = found->folder.string();
    say(fmt::format("going on from {}", found->folder.string()));
  }

  const Recipe& recipe_;
  const RunHooks& hooks_;
  const fs::path output_;
  std::shared_ptr<const Processor> processor_;
  int64_t total_;
  Schedule schedule_;
  RunCheckpoints checkpoints_;
  TrainedModel model_;
  std::optional<DatasetFile> held_out_;
  std::optional<LoaderState> loader_state_;
  int64_t step_ = 0, skipped_ = 0, bad_in_a_row_ = 0;
  double pace_ = 0;
  RunSummary summary_;
};

}  // namespace

std::string plan_memory(const Recipe& recipe) {
  const ModelConfig config = recipe_config(recipe);
  std::map<std::string, bool> trains;
  for (const ParameterRule& rule : parameter_rules(recipe, config)) trains[rule.name] = rule.trainable;
  TrainMemoryInput input;
  input.trains = [&](const WeightSpec& spec) { return trains.at(spec.name); };
  input.bf16_compute = recipe.compute == ComputeType::kBf16;
  input.fused = input.bf16_compute && training_device(recipe.device).is_cpu();
  input.bf16_moments = recipe.bf16_optimizer;
  input.frozen_bytes = input.bf16_compute ? 2 : 4;
  if (recipe.lora) {
    const std::vector<LoraLayer> layers = lora_layers(config, recipe.lora->targets);
    input.adapter_parameters = lora_num_parameters(layers, recipe.lora->rank);
  }
  input.longest_sample = recipe.max_length;
  input.replicas = recipe.replicas;
  input.tokens = recipe.micro_batch * recipe.max_length;
  // As if every token were a picture's: of one local tile beside the global view.
  const int64_t side = config.tokens_per_side(), tokens = 2 * side * (side + 1) + 1;
  input.tiles = 2 * (input.tokens / tokens);
  input.recomputed_vision_blocks = recipe.recompute.vision_blocks;
  input.recompute_language = recipe.recompute.language;
  const TrainMemory plan = plan_train_memory(config, input);
  // What a card has left, libtorch alone knows; its own error says it.
  if (training_device(recipe.device).is_cpu())
    check_train_memory(plan, available_memory().value_or(std::numeric_limits<int64_t>::max()));
  return train_memory_text(plan);
}

RunSummary run_training(const Recipe& recipe, const RunHooks& hooks) {
  at::set_num_threads(recipe.threads > 0 ? static_cast<int>(recipe.threads) : ThreadPool::default_num_threads());
  Run run(recipe, hooks);
  return run.train();
}

}  // namespace vl2::train

#include "apps/cli/bench_run.h"

#include <algorithm>
#include <memory>

#include "core/base/available_memory.h"
#include "core/base/random.h"
#include "core/model_spec/work.h"
#include "engine/model/deepseek_vl2.h"
#include "engine/model/sequence_runner.h"
#include "engine/model/visual_sequence.h"
#include "engine/runtime/engine.h"
#include "engine/runtime/placement.h"

namespace vl2::cli {
namespace {

constexpr int64_t kFillChunk = 512;  // tokens of a step that fills a decode's context

template <typename Work>
double seconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int64_t largest(const std::vector<int64_t>& values) { return *std::max_element(values.begin(), values.end()); }

ModelConfig subject_config(const BenchOptions& options) {
  ModelConfig config =
      options.preset.empty() ? load_model_config(options.model / "config.json") : preset_config(options.preset);
  if (options.layers > 0) {
    if (options.layers > config.language.num_hidden_layers)
      fail(ErrorCode::kInvalidArgument, "--layers {}: the model has {}", options.layers,
           config.language.num_hidden_layers);
    config.language.num_hidden_layers = options.layers;
  }
  return config;
}

void check_options(const BenchOptions& options) {
  const auto at_least = [](const char* name, int64_t value, int64_t least) {
    if (value < least) fail(ErrorCode::kInvalidArgument, "{} {}: must be at least {}", name, value, least);
  };
  at_least("--repeats", options.repeats, 1);
  at_least("--generated", options.generated, 1);
  for (const int64_t tokens : options.tokens) at_least("--tokens", tokens, 1);
  for (const int64_t context : options.context) at_least("--context", context, 0);
  for (const int64_t batch : options.batch) at_least("--batch", batch, 1);
  if (options.tiles < 2)
    fail(ErrorCode::kInvalidArgument, "--tiles {}: a picture has at least 2, the global view and a local tile",
         options.tiles);
}

void describe(BenchReport& report, const BenchOptions& options, const ModelConfig& config) {
  report.subject = options.preset.empty() ? options.model.string() : options.preset;
  report.layers = config.language.num_hidden_layers;
  report.repeats = options.repeats;
  report.format = model_format_name(options.format);
  const ProcessorReport processor = processor_report();
  report.processor = processor.processor;
  report.kernels = processor.kernels;
  report.threads = options.compute.threads > 0 ? options.compute.threads : processor.threads;
}

// Nothing to put beside it: reading files, packing and mapping have no one limit.
BenchReport run_load(const BenchOptions& options, const BenchProgress& progress) {
  BenchReport report;
  describe(report, options, load_model_config(options.model / "config.json"));
  BenchResult result;
  result.work = "load";
  result.count = 1;
  for (int i = 0; i <= options.repeats; ++i) {  // the first brings the files into memory
    EngineOptions engine_options;
    engine_options.backend = options.backend;
    engine_options.compute = options.compute;
    engine_options.prefix_cache = false;
    engine_options.picture_cache_bytes = 0;
    Request request;
    request.prompt.input_ids = {0};
    request.max_new_tokens = 1;
    std::unique_ptr<Engine> engine;
    const double time = seconds([&] {
      engine = Engine::open(options.model, engine_options);
      const auto stream = engine->submit(std::move(request));
      stream->next();
    });
    if (i > 0) result.repeats.emplace_back().seconds = time;
    report.weight_bytes = engine->memory().weights + engine->memory().host_experts;
    report.description = engine->backend();
    progress("load", i, options.repeats);
  }
  report.results.push_back(std::move(result));
  report.peak_rss_bytes = peak_memory();
  finish_report(report);
  return report;
}

class Bench {
 public:
  Bench(const BenchOptions& options, const BenchProgress& progress)
      : options_(options), progress_(progress), config_(subject_config(options)) {
    describe(report_, options, config_);
    placement_ = placement();
    const BackendFootprint& footprint = placement_.input.footprint;
    stored_ = {options.format, footprint.lookup, footprint.vector, footprint.cache};
    load();
  }

  BenchReport run() {
    for (const std::string& work : options_.work) {
      if (work == "vision") vision();
      if (work == "prefill")
        for (const int64_t tokens : options_.tokens) prefill(tokens);
      if (work == "decode")
        for (const int64_t context : options_.context) decode(context);
    }
    report_.counts = ops_->counts();
    report_.peak_rss_bytes = peak_memory();
    finish_report(report_);
    return report_;
  }

 private:
  bool wants(std::string_view work) const {
    return std::find(options_.work.begin(), options_.work.end(), work) != options_.work.end();
  }

  Placement placement() {
    const int64_t prompt = wants("prefill") ? largest(options_.tokens) : 1;
    const int64_t batch = wants("decode") ? largest(options_.batch) : 1;
    const int64_t sequence = wants("decode") ? largest(options_.context) + options_.generated + 2 : 1;
    MemoryPlanInput input;
    input.format = options_.format;
    input.cached_tokens = std::max(prompt, batch * sequence);
    input.max_context = std::max(prompt, sequence);
    input.prefill_chunk = std::max(prompt, kFillChunk);
    input.max_sequences = batch;
    input.other_bytes = int64_t{1} << 30;  // what reading speed is measured on
    Placement result = place_model(config_, input, options_.backend, options_.compute);
    report_.weight_bytes = result.memory.weights + result.memory.host_experts;
    try {
      check_placement(result, config_, report_.subject);
      return result;
    } catch (const Error& e) {
      fail(e.code(), "{} For a benchmark, --layers N loads the first N of {} layers.", e.what(),
           config_.language.num_hidden_layers);
    }
  }

  void load() {
    ops_ = make_ops(placement_.backend, placement_.compute);
    meter_ = make_limit_meter(placement_.backend, placement_.compute);
    const BindProgress loading = [this](int64_t done, int64_t total) { progress_("load", done, total); };
    if (options_.preset.empty()) {
      const Checkpoint checkpoint(options_.model);
      CheckpointSource source(checkpoint);
      model_ = std::make_unique<DeepseekVl2>(config_, *ops_, source, loading);
    } else {
      RandomSource source(1, config_, options_.format);
      model_ = std::make_unique<DeepseekVl2>(config_, *ops_, source, loading);
    }
    report_.description = ops_->description();
  }

  // One unmeasured turn in which experts are counted, then the repeats, each between two measurements of the limits;
  // with --ops one more turn. turn() gives seconds for result.rows tiles or tokens; step_tokens: of a step of the
  // language model, 0 without one.
  template <typename Turn>
  void repeat(BenchResult result, PanelFormat format, int64_t step_tokens, const Turn& turn) {
    result.unit = meter_->unit(format);
    const std::string name = result.work;
    OpTable warm;
    observed_turn(warm, turn);
    result.experts = warm.experts_per_layer();
    if (step_tokens > 0) result.bytes += step_weight_bytes(config_, stored_, step_tokens, result.experts);
    if (result.work == "decode") turn();  // observed steps are not those that run otherwise
    progress_(name, 0, options_.repeats);
    MachineLimits limits = meter_->measure();
    for (int i = 1; i <= options_.repeats; ++i) {
      BenchRepeat& repeat = result.repeats.emplace_back();
      repeat.before = limits;
      repeat.seconds = turn();
      repeat.after = limits = meter_->measure();
      progress_(name, i, options_.repeats);
    }
    if (options_.ops) {
      OpTable table;
      observed_turn(table, turn);
      const MachineLimits after = meter_->measure();
      result.ops = table.rows();
      finish_ops(result.ops, better_of(limits, after), result.unit, meter_->unit(PanelFormat::kBf16),
                 meter_->attention_unit());
    }
    report_.results.push_back(std::move(result));
  }

  template <typename Turn>
  void observed_turn(OpTable& table, const Turn& turn) {
    ops_->set_observer(&table);
    turn();
    ops_->set_observer(nullptr);
  }

  // What multiplies most of the language model.
  PanelFormat language_format() const {
    return options_.format == ModelFormat::kBf16 ? PanelFormat::kBf16 : PanelFormat::kQ8;
  }
  PanelFormat vision_format() const {
    const bool wide = options_.format == ModelFormat::kBf16 || options_.format == ModelFormat::kMixed;
    return wide ? PanelFormat::kBf16 : PanelFormat::kQ8;
  }

  void vision() {
    const ImageGrid grid{options_.tiles - 1, 1};
    const int64_t rows = num_visual_tokens(grid.tiles_wide, grid.tiles_high, config_.tokens_per_side());
    const int64_t side = config_.vision.image_size;
    std::vector<float> pixels(static_cast<size_t>(options_.tiles * 3 * side * side));
    Random random(2);
    for (float& p : pixels) p = random.symmetric();
    Workspace::Scope scope(ops_->workspace());
    Tensor out = ops_->workspace().tensor(rows, config_.language.hidden_size);
    BenchResult result;
    result.work = "vision";
    result.count = options_.tiles;
    result.rows = static_cast<double>(options_.tiles);
    result.flops = vision_flops_per_tile(config_) * result.rows;
    result.bytes = vision_weight_bytes(config_, stored_);
    repeat(result, vision_format(), 0, [&] {
      return seconds([&] {
        model_->encode_images(pixels, {&grid, 1}, out);
        ops_->wait();
      });
    });
  }

  SequenceInput random_text(int64_t tokens, uint64_t seed) const {
    SequenceInput input;
    Random random(seed);
    for (int64_t t = 0; t < tokens; ++t)
      input.ids.push_back(static_cast<int32_t>(random.below(config_.language.vocab_size)));
    input.is_image.assign(input.ids.size(), false);
    return input;
  }

  void prefill(int64_t tokens) {
    SequenceRunner sequence(*model_, {random_text(tokens, 3)}, 0);
    BenchResult result;
    result.work = "prefill";
    result.count = tokens;
    result.rows = static_cast<double>(tokens);
    result.flops = prefill_flops(config_, tokens);
    repeat(result, language_format(), tokens, [&] {
      sequence.restart(0);
      return seconds([&] { sequence.step_all(SequenceRunner::Logits::kLast); });
    });
  }

  void decode(int64_t context) {
    const int64_t prompt = std::max<int64_t>(context, 1), most = largest(options_.batch);
    std::vector<SequenceInput> texts;
    for (int64_t s = 0; s < most; ++s) texts.push_back(random_text(prompt, 10 + static_cast<uint64_t>(s)));
    SequenceRunner sequences(*model_, std::move(texts), options_.generated + 1, nullptr,
                             SequenceRunner::Blocks::kTogether);
    for (int64_t s = 0; s < most; ++s) {
      for (int64_t done = 0; done < prompt; done += kFillChunk) {
        const SequenceRunner::Part part{s, std::min(kFillChunk, prompt - done)};
        sequences.step({&part, 1}, SequenceRunner::Logits::kNone);
        progress_("fill", s * prompt + done, most * prompt);
      }
    }
    for (const int64_t batch : options_.batch) decode(sequences, context, prompt, batch);
  }

  // The first `batch` sequences answer. Every turn draws the same tokens, so that the experts counted in one are those
  // of all.
  void decode(SequenceRunner& sequences, int64_t context, int64_t prompt, int64_t batch) {
    std::vector<SequenceRunner::Part> parts;
    for (int64_t s = 0; s < batch; ++s) parts.push_back({s, 1});
    BenchResult result;
    result.work = "decode";
    result.count = options_.generated;
    result.context = context;
    result.batch = batch;
    result.rows = static_cast<double>(batch);
    const int64_t past = prompt + options_.generated / 2;
    result.flops = result.rows * prefill_flops(config_, 1, past);
    result.bytes = result.rows * cache_bytes_per_token(config_, stored_, past);
    repeat(result, language_format(), batch, [&] {
      Random random(4);
      for (int64_t s = 0; s < batch; ++s) sequences.rewind(s, prompt);
      double time = 0;
      for (int64_t i = 0; i < options_.generated; ++i) {
        for (int64_t s = 0; s < batch; ++s)
          sequences.append(s, static_cast<int32_t>(random.below(config_.language.vocab_size)));
        // As the engine's greedy answers: rows of logits stay on a device.
        const auto wanted = ops_->on_host() ? SequenceRunner::Logits::kLast : SequenceRunner::Logits::kBest;
        time += seconds([&] { sequences.step(parts, wanted); });
      }
      return time / static_cast<double>(options_.generated);
    });
  }

  const BenchOptions options_;
  const BenchProgress progress_;
  const ModelConfig config_;
  BenchReport report_;
  Placement placement_;
  StoredBytes stored_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<DeepseekVl2> model_;
  std::unique_ptr<LimitMeter> meter_;
};

}  // namespace

BenchReport run_bench(const BenchOptions& options, const BenchProgress& progress) {
  check_options(options);
  if (options.work == std::vector<std::string>{"load"}) return run_load(options, progress);
  return Bench(options, progress).run();
}

}  // namespace vl2::cli

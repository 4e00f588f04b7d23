#include "apps/cli/bench_run.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>

#include "core/base/random.h"
#include "core/model_spec/work.h"
#include "engine/model/deepseek_vl2.h"
#include "engine/model/sequence_runner.h"
#include "engine/model/visual_sequence.h"
#include "engine/runtime/available_memory.h"
#include "engine/runtime/memory_plan.h"

namespace vl2::cli {
namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

template <typename Work>
double seconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int64_t peak_rss() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

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

class Bench {
 public:
  Bench(const BenchOptions& options, const BenchProgress& progress)
      : options_(options), progress_(progress), config_(subject_config(options)) {
    check_options();
    report_.subject = options.preset.empty() ? options.model.string() : options.preset;
    report_.layers = config_.language.num_hidden_layers;
    report_.repeats = options.repeats;
    check_memory_first();
    load();
  }

  BenchReport run() {
    for (const std::string& work : options_.work) {
      if (work == "vision") report_.results.push_back(vision());
      if (work == "prefill") report_.results.push_back(prefill());
      if (work == "decode") report_.results.push_back(decode());
    }
    report_.limits.read_gbps = median(reads_);
    for (const auto& [unit, rates] : rates_) report_.limits.tflops[unit] = median(rates);
    for (BenchResult& r : report_.results) {
      r.floor_s = r.limit == "read" ? r.bytes / (report_.limits.read_gbps * 1e9)
                                    : r.flops / (report_.limits.tflops.at(r.limit) * 1e12);
      r.share = r.floor_s / r.median_s;
    }
    report_.peak_rss_bytes = peak_rss();
    return report_;
  }

 private:
  void check_options() const {
    const auto positive = [](const char* name, int64_t value) {
      if (value < 1) fail(ErrorCode::kInvalidArgument, "{} {}: must be at least 1", name, value);
    };
    positive("--repeats", options_.repeats);
    positive("--tokens", options_.tokens);
    positive("--generated", options_.generated);
    if (options_.tiles < 2)
      fail(ErrorCode::kInvalidArgument, "--tiles {}: a picture has at least 2, the global view and a local tile",
           options_.tiles);
    if (options_.context < 0) fail(ErrorCode::kInvalidArgument, "--context {}: must not be negative", options_.context);
  }

  int64_t longest() const { return std::max(options_.tokens, options_.context + 1) + options_.generated; }

  void check_memory_first() {
    MemoryPlanInput input;
    input.footprint = backend_footprint(options_.backend, options_.compute);
    input.cached_tokens = input.max_context = longest();
    input.prefill_chunk = 0;
    MemoryReport plan = plan_memory(config_, input);
    report_.weight_bytes = plan.weights;
    plan.activations += int64_t{1} << 30;  // what reading speed is measured on
    try {
      check_memory(plan, available_memory().value_or(INT64_MAX), report_.subject);
    } catch (const Error& e) {
      fail(e.code(), "{} For a benchmark, --layers N loads the first N of {} layers.", e.what(),
           config_.language.num_hidden_layers);
    }
  }

  void load() {
    ops_ = make_ops(options_.backend, options_.compute);
    const BindProgress loading = [this](int64_t done, int64_t total) { progress_("load", done, total); };
    if (options_.preset.empty()) {
      const Checkpoint checkpoint(options_.model);
      CheckpointSource source(checkpoint);
      model_ = std::make_unique<DeepseekVl2>(config_, *ops_, source, loading);
    } else {
      RandomSource source(1);
      model_ = std::make_unique<DeepseekVl2>(config_, *ops_, source, loading);
    }
    report_.description = ops_->description();
    meter_ = make_limit_meter(options_.backend, options_.compute);
  }

  // One unmeasured turn, then the repeats, each beside a measurement of the limits.
  template <typename Turn>
  BenchResult repeat(const std::string& work, int64_t count, double parts, const Turn& turn) {
    BenchResult result;
    result.work = work;
    result.count = count;
    std::vector<double> times;
    for (int i = 0; i <= options_.repeats; ++i) {
      if (i > 0) {
        const MachineLimits limits = meter_->measure();
        reads_.push_back(limits.read_gbps);
        for (const auto& [unit, rate] : limits.tflops) rates_[unit].push_back(rate);
      }
      const double time = turn() / parts;
      progress_(work, i, options_.repeats);
      if (i > 0) times.push_back(time);
    }
    result.median_s = median(times);
    result.min_s = *std::min_element(times.begin(), times.end());
    result.max_s = *std::max_element(times.begin(), times.end());
    result.per_s = static_cast<double>(count) / parts / result.median_s;
    return result;
  }

  BenchResult vision() {
    const ImageGrid grid{options_.tiles - 1, 1};
    const int64_t rows = num_visual_tokens(grid.tiles_wide, grid.tiles_high, config_.tokens_per_side());
    const int64_t side = config_.vision.image_size;
    std::vector<float> pixels(static_cast<size_t>(options_.tiles * 3 * side * side));
    Random random(2);
    for (float& p : pixels) p = random.symmetric();
    Workspace::Scope scope(ops_->workspace());
    Tensor out = ops_->workspace().tensor(rows, config_.language.hidden_size);
    BenchResult result = repeat("vision", options_.tiles, 1, [&] {
      return seconds([&] { model_->encode_images(pixels, {&grid, 1}, out); });
    });
    result.flops = vision_flops_per_tile(config_) * static_cast<double>(options_.tiles);
    result.limit = meter_->unit();
    return result;
  }

  SequenceRunner runner(int64_t tokens) {
    SequenceInput input;
    Random random(3);
    for (int64_t t = 0; t < tokens; ++t)
      input.ids.push_back(static_cast<int32_t>(random.below(config_.language.vocab_size)));
    input.is_image.assign(input.ids.size(), false);
    return {*model_, {std::move(input)}, options_.generated + 1};
  }

  BenchResult prefill() {
    SequenceRunner sequence = runner(options_.tokens);
    BenchResult result = repeat("prefill", options_.tokens, 1, [&] {
      sequence.restart(0);
      return seconds([&] { sequence.step_all(SequenceRunner::Logits::kLast); });
    });
    result.flops = prefill_flops(config_, options_.tokens);
    result.limit = meter_->unit();
    return result;
  }

  BenchResult decode() {
    const int64_t prompt = std::max<int64_t>(options_.context, 1);
    SequenceRunner sequence = runner(prompt);
    sequence.step_all(SequenceRunner::Logits::kLast);
    Random random(4);
    const auto generated = static_cast<double>(options_.generated);
    BenchResult result = repeat("decode", options_.generated, generated, [&] {
      sequence.rewind(0, prompt);
      double time = 0;
      for (int64_t i = 0; i < options_.generated; ++i) {
        sequence.append(0, static_cast<int32_t>(random.below(config_.language.vocab_size)));
        time += seconds([&] { sequence.step_all(SequenceRunner::Logits::kLast); });
      }
      return time;
    });
    const BackendFootprint footprint = backend_footprint(options_.backend, options_.compute);
    const StoredBytes stored{footprint.matrix, footprint.vector, footprint.cache};
    result.context = options_.context;
    result.bytes = weight_bytes_per_token(config_, stored) +
                   cache_bytes_per_token(config_, stored, prompt + options_.generated / 2);
    result.limit = "read";
    return result;
  }

  const BenchOptions options_;
  const BenchProgress progress_;
  const ModelConfig config_;
  BenchReport report_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<DeepseekVl2> model_;
  std::unique_ptr<LimitMeter> meter_;
  std::vector<double> reads_;
  std::map<std::string, std::vector<double>> rates_;
};

}  // namespace

BenchReport run_bench(const BenchOptions& options, const BenchProgress& progress) {
  return Bench(options, progress).run();
}

}  // namespace vl2::cli

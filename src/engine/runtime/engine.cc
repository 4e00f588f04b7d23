#include "engine/runtime/engine.h"

#include <thread>
#include <utility>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/lora.h"
#include "core/checkpoint/lora_merge.h"
#include "core/processor/processor.h"
#include "engine/model/deepseek_vl2.h"
#include "engine/runtime/engine_loop.h"
#include "engine/runtime/placement.h"
#include "engine/runtime/request_check.h"

namespace vl2 {
namespace {

// What attention reads in one piece, and what may be computed once more of a prompt whose prefix is cached (decision
// 16).
constexpr int64_t kBlockTokens = 16;
constexpr int64_t kMostBytes = int64_t{1} << 50;
constexpr int64_t kMostTokens = int64_t{1} << 30;  // of a context or a cache; sizes computed from it do not overflow

void check_range(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high)
    fail(ErrorCode::kInvalidArgument, "{} is {}, expected {} to {}", name, value, low, high);
}

// Zeros replaced by what they stand for.
EngineOptions resolve(EngineOptions options, const ModelConfig& config) {
  check_range("max_context", options.max_context, 0, kMostTokens);
  check_range("max_cached_tokens", options.max_cached_tokens, 0, kMostTokens);
  check_range("prefill_chunk", options.prefill_chunk, 0, kMostTokens);
  check_range("max_sequences", options.max_sequences, 1, 65536);
  check_range("picture_cache_bytes", options.picture_cache_bytes, -1, kMostBytes);
  check_range("memory_limit", options.memory_limit, 0, INT64_MAX);
  options.compute.quantized |= config.quantization.has_value();
  if (options.max_context == 0) options.max_context = config.language.max_position_embeddings;
  check_range("max_context", options.max_context, 2, kMostTokens);  // a token and its answer
  if (options.max_cached_tokens == 0) options.max_cached_tokens = options.max_context;
  options.max_cached_tokens = (options.max_cached_tokens + kBlockTokens - 1) / kBlockTokens * kBlockTokens;
  // The last token of an answer is never cached, but one of room more is not worth explaining.
  options.max_context = std::min(options.max_context, options.max_cached_tokens);
  // Dynamic scaling moves the angles of a row with the tokens behind it, once these are more than the model was made
  // for.
  const auto& scaling = config.language.rope_scaling;
  if (scaling && scaling->type == RopeScalingType::kDynamic &&
      options.max_context > config.language.max_position_embeddings)
    options.prefix_cache = false;
  return options;
}

struct Plan {
  EngineOptions options;  // with the backend that "auto" stands for
  MemoryReport memory;
};

Plan make_plan(EngineOptions options, const ModelConfig& config, const std::string& model) {
  MemoryPlanInput input;
  input.format = config.quantization;
  input.cached_tokens = options.max_cached_tokens;
  input.max_context = options.max_context;
  input.prefill_chunk = options.prefill_chunk;
  input.max_sequences = options.max_sequences;
  input.picture_cache_bytes = std::max<int64_t>(options.picture_cache_bytes, 0);
  Placement placement = place_model(config, input, options.backend, options.compute, options.memory_limit);
  MemoryReport& memory = placement.memory;
  if (options.picture_cache_bytes < 0) memory.pictures = default_picture_cache(memory, memory.available);
  check_placement(placement, config, model);
  options.backend = placement.backend;
  options.compute = placement.compute;
  return {std::move(options), memory};
}

// The type most of the weights are stored in: of the first matrix.
DType stored_type(const Checkpoint& checkpoint, const ModelConfig& config) {
  if (config.quantization) return DType::kBF16;  // what is no panel; panels need no type
  for (const WeightSpec& spec : weight_schema(config))
    if (spec.role == WeightRole::kMatrix) return checkpoint.at(spec.name).dtype;
  return DType::kF32;
}

// Both files say how pictures are cut; prompts that fit one and not the other would be refused one by one.
void check_processor(const Processor& processor, const ModelConfig& config, const std::filesystem::path& folder) {
  const ProcessorConfig& c = processor.config();
  if (c.tile_size() == config.tile_size() && c.tokens_per_side() == config.tokens_per_side()) return;
  fail(ErrorCode::kCorrupt,
       "{}: processor_config.json cuts tiles of {} pixels into {} vision tokens a side, config.json tiles of {} into "
       "{}; they are of different models",
       folder.string(), c.tile_size(), c.tokens_per_side(), config.tile_size(), config.tokens_per_side());
}

}  // namespace

class Engine::Impl {
 public:
  Impl(const ModelConfig& config, const EngineOptions& unresolved, const std::string& name, WeightSource& source,
       std::shared_ptr<const Tokenizer> tokenizer, std::shared_ptr<const Processor> processor)
      : plan_(make_plan(resolve(unresolved, config), config, name)),
        processor_(std::move(processor)),
        tokenizer_(std::move(tokenizer)),
        constraints_(tokenizer_, static_cast<int32_t>(config.language.eos_token_id)),
        ops_(make_ops(options_.backend, options_.compute)),
        model_(config, *ops_, source, load_progress()),
        cache_(model_.make_cache(options_.max_cached_tokens / kBlockTokens, kBlockTokens)),
        loop_({model_, *cache_, queue_, board_, options_.observer},
              {.tokenizer = tokenizer_.get(),
               .vocab_size = config.language.vocab_size,
               .max_context = options_.max_context,
               .eos = static_cast<int32_t>(config.language.eos_token_id),
               .bos = static_cast<int32_t>(config.language.bos_token_id),
               .tokens_per_side = config.tokens_per_side(),
               .share_prefixes = options_.prefix_cache,
               .block_tokens = kBlockTokens},
              {options_.prefill_chunk, options_.max_context, options_.max_sequences}, memory_.pictures) {
    ops_->set_observer(options_.op_observer);
    thread_ = std::thread([this] { loop_.run(); });
  }

  ~Impl() {
    queue_.close();
    thread_.join();
  }

  std::shared_ptr<TokenStream> submit(Request request) {
    check_request(request, model_.config(), options_.max_context, tokenizer_ != nullptr);
    const Clock::time_point submitted = Clock::now();
    std::vector<PictureKey> keys;
    if (options_.prefix_cache || memory_.pictures > 0)
      for (const TiledImage& image : request.prompt.images) keys.push_back(picture_key(image));
    auto channel = std::make_shared<TokenChannel>();
    queue_.push({std::move(request), channel, submitted, std::move(keys)});
    return std::make_shared<TokenStream>(std::move(channel));
  }

  std::shared_ptr<const Constraint> compile(const ConstraintSpec& spec) {
    if (tokenizer_ == nullptr) fail(ErrorCode::kNotFound, "constraints need a tokenizer, and this engine has none");
    return constraints_.compile(spec);
  }

  const EngineOptions& options() const { return options_; }
  const MemoryReport& memory() const { return memory_; }
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }
  const Processor* processor() const { return processor_.get(); }
  const Ops& ops() const { return *ops_; }
  const DeepseekVl2& model() const { return model_; }
  EngineStats stats() const { return board_.read(); }

 private:
  BindProgress load_progress() const {
    if (!options_.progress) return {};
    return [this](int64_t done, int64_t total) { options_.progress(Stage::kLoad, done, total); };
  }

  const Plan plan_;
  const EngineOptions& options_ = plan_.options;
  const MemoryReport& memory_ = plan_.memory;
  const std::shared_ptr<const Processor> processor_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  ConstraintCompiler constraints_;
  const std::unique_ptr<Ops> ops_;
  const DeepseekVl2 model_;
  const std::unique_ptr<KvCache> cache_;
  RequestQueue queue_;
  StatsBoard board_;
  EngineLoop loop_;
  std::thread thread_;
};

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

std::unique_ptr<Engine> Engine::create(const ModelConfig& config, WeightSource& source,
                                       std::shared_ptr<const Tokenizer> tokenizer, const EngineOptions& options) {
  validate_model_config(config, "the model");
  return std::unique_ptr<Engine>(
      new Engine(std::make_unique<Impl>(config, options, "the model", source, std::move(tokenizer), nullptr)));
}

std::unique_ptr<Engine> Engine::open(const std::filesystem::path& folder, EngineOptions options,
                                     std::shared_ptr<const Processor> processor) {
  const ModelConfig config = load_model_config(folder / "config.json");
  if (processor == nullptr) processor = std::make_shared<const Processor>(Processor::open(folder));
  check_processor(*processor, config, folder);
  const Checkpoint checkpoint(folder);  // what is read where it lies stays mapped, the rest is unmapped again
  checkpoint.check(config);
  options.compute.weights = stored_type(checkpoint, config);
  std::optional<LoraAdapter> adapter;
  std::unique_ptr<WeightSource> source;
  if (options.lora.empty()) {
    source = std::make_unique<CheckpointSource>(checkpoint);
  } else {
    check_lora_can_merge(folder, config.quantization.has_value());
    adapter.emplace(options.lora).check(config);
    source = std::make_unique<LoraSource>(checkpoint, *adapter, options.compute.threads);
  }
  auto tokenizer = processor->shared_tokenizer();
  return std::unique_ptr<Engine>(new Engine(
      std::make_unique<Impl>(config, options, folder.string(), *source, std::move(tokenizer), std::move(processor))));
}

std::shared_ptr<TokenStream> Engine::submit(Request request) { return impl_->submit(std::move(request)); }
std::shared_ptr<const Constraint> Engine::compile(const ConstraintSpec& spec) { return impl_->compile(spec); }
const ModelConfig& Engine::config() const { return impl_->model().config(); }
std::string Engine::backend() const { return std::string(impl_->ops().name()); }
int64_t Engine::gpu_layers() const { return impl_->options().compute.gpu_layers; }
const std::filesystem::path& Engine::lora() const { return impl_->options().lora; }
int64_t Engine::max_context() const { return impl_->options().max_context; }
const MemoryReport& Engine::memory() const { return impl_->memory(); }
EngineStats Engine::stats() const { return impl_->stats(); }

const Tokenizer& Engine::tokenizer() const {
  if (impl_->tokenizer() == nullptr) fail(ErrorCode::kNotFound, "this engine was made without a tokenizer");
  return *impl_->tokenizer();
}

const Processor& Engine::processor() const {
  if (impl_->processor() == nullptr) fail(ErrorCode::kNotFound, "this engine was made without a model folder");
  return *impl_->processor();
}

}  // namespace vl2

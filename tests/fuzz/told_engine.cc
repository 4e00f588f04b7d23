#include "fuzz/told_engine.h"

#include <filesystem>
#include <utility>

#include "core/processor/toy_processor.h"
#include "engine/runtime/channels.h"
#include "engine/runtime/request_check.h"
#include "engine/runtime/sequence.h"

namespace vl2 {
namespace {

constexpr int64_t kMaxContext = 800;
constexpr float kCertain = 60;  // a logit among zeros
constexpr char kEnd = '\xff', kFailure = '\xfe';

ModelConfig config_of(const Processor& processor) {
  ModelConfig config = preset_config("test-tiny");
  config.vision.image_size = processor.config().tile_size();
  config.vision.patch_size = processor.config().patch_size;
  config.projector.downsample_ratio = processor.config().downsample_ratio;
  config.candidate_resolutions = processor.config().candidate_resolutions;
  config.language.vocab_size = int64_t{processor.tokenizer().highest_id()} + 3;  // padded, as vocabularies are
  config.language.eos_token_id = processor.special().eos;
  return config;
}

}  // namespace

// In place of engine/runtime/engine.cc, which the linker does not take then.
class Engine::Impl {
 public:
  explicit Impl(fuzz::Script& told)
      : script(told),
        config(config_of(processor)),
        compiler(processor.shared_tokenizer(), processor.special().eos),
        limits{.tokenizer = &processor.tokenizer(),
               .vocab_size = config.language.vocab_size,
               .max_context = kMaxContext,
               .eos = processor.special().eos,
               .tokens_per_side = config.tokens_per_side()} {}

  std::shared_ptr<TokenStream> submit(Request request) {
    check_request(request, config, kMaxContext, true);
    auto channel = std::make_shared<TokenChannel>();
    Sequence sequence({std::move(request), channel, Clock::now(), {}}, limits);
    Answer answer;
    try {
      run(sequence);
      answer = sequence.finish(sequence.finish_reason());
    } catch (const Error& error) {
      answer = sequence.finish(FinishReason::kError, error);
    }
    script.on_finish(answer);
    channel->finish(std::move(answer));
    return std::make_shared<TokenStream>(channel);
  }

  fuzz::Script& script;
  const Processor processor = toy_processor();
  const ModelConfig config;
  const MemoryReport memory;
  ConstraintCompiler compiler;
  const SequenceLimits limits;

 private:
  void run(Sequence& sequence) const {
    std::vector<float> logits(static_cast<size_t>(config.language.vocab_size));
    for (size_t i = 0;; ++i) {
      const char told = i < script.tokens.size() ? script.tokens[i] : kEnd;
      if (told == kFailure) fail(ErrorCode::kIo, "this answer was told to fail");
      const auto id = static_cast<size_t>(told == kEnd ? limits.eos : static_cast<uint8_t>(told));
      logits[id] = kCertain;
      if (sequence.sample({logits})) return;
      logits[id] = 0;
    }
  }
};

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;
// NOLINTBEGIN(performance-unnecessary-value-param): Engine's own signature
std::unique_ptr<Engine> Engine::open(const std::filesystem::path&, EngineOptions options,
                                     std::shared_ptr<const Processor>) {
  // NOLINTEND(performance-unnecessary-value-param)
  return std::unique_ptr<Engine>(new Engine(std::make_unique<Impl>(dynamic_cast<fuzz::Script&>(*options.observer))));
}
std::shared_ptr<TokenStream> Engine::submit(Request request) { return impl_->submit(std::move(request)); }
std::shared_ptr<const Constraint> Engine::compile(const ConstraintSpec& spec) { return impl_->compiler.compile(spec); }
const ModelConfig& Engine::config() const { return impl_->config; }
const Tokenizer& Engine::tokenizer() const { return impl_->processor.tokenizer(); }
const Processor& Engine::processor() const { return impl_->processor; }
std::string Engine::backend() const { return "told"; }
int64_t Engine::max_context() const { return kMaxContext; }
const MemoryReport& Engine::memory() const { return impl_->memory; }
EngineStats Engine::stats() const { return {}; }
const std::filesystem::path& Engine::lora() const {
  static const std::filesystem::path none;
  return none;
}

std::shared_ptr<Engine> fuzz::make_told_engine(Script& script) {
  EngineOptions options;
  options.observer = &script;
  return Engine::open({}, options);
}

}  // namespace vl2

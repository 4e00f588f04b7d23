// The engine: one model, many requests at a time. The public face of src/engine.
//
//   auto engine = Engine::open("models/nano");
//   Request request;
//   request.prompt = ...;                       // core/processor
//   auto stream = engine->submit(std::move(request));
//   while (auto token = stream->next()) std::cout << token->text;
//
// Owns model, cache, tokenizer and the one thread that drives them. Every public function may be called from any
// thread. The destructor cancels what is unfinished and joins.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "core/model_spec/model_config.h"
#include "engine/backends.h"
#include "engine/runtime/engine_stats.h"
#include "engine/runtime/request.h"
#include "engine/runtime/token_stream.h"

namespace vl2 {

class Tokenizer;
class Processor;
class WeightSource;

struct EngineOptions {
  std::string backend = "auto";  // backend_names(), or the best of them
  BackendOptions compute = {};
  // Longest prompt plus answer. 0: the model's max_position_embeddings; more is allowed, at your own risk.
  int64_t max_context = 0;
  // Tokens of all running requests together that the cache has room for. 0: max_context.
  int64_t max_cached_tokens = 0;
  int64_t prefill_chunk = 512;  // prompt tokens per step; 0: a prompt is taken whole
  int64_t max_sequences = 64;   // requests running at a time; the others wait
  // Prompts begin behind what the cache already has of them. Answers are the same to the last bit, only times differ.
  bool prefix_cache = true;
  // Encoded pictures that are kept for requests to come. -1: 256 MiB, or a quarter of the memory nothing else needs
  // where that is less; 0: none.
  int64_t picture_cache_bytes = -1;
  int64_t memory_limit = 0;  // bytes; 0: what the machine and its control group have free
  // Of Engine::open: the folder of a LoRA adapter that is merged while the model is loaded; empty: none.
  std::filesystem::path lora = {};
  ProgressCallback progress = {};  // optional: kLoad of the engine
  EngineObserver* observer = nullptr;
  OpObserver* op_observer = nullptr;  // called for every operation, on the engine's thread; must outlive the engine
};

class Engine {
 public:
  // A model folder in the Hugging Face layout. Errors: kNotFound, kCorrupt, kUnsupported from its files; kOutOfMemory,
  // before anything is loaded, with the numbers; kInvalidArgument for the options; of an adapter what LoraAdapter says,
  // and kUnsupported on a quantised model. `processor`: of the same folder,
  // where somebody has it open already: its tokenizer is most of what there is to read at the start.
  static std::unique_ptr<Engine> open(const std::filesystem::path& folder, EngineOptions options = {},
                                      std::shared_ptr<const Processor> processor = nullptr);
  // A model without a folder, e.g. of random weights for benchmarks. Without a tokenizer events carry no text.
  static std::unique_ptr<Engine> create(const ModelConfig& config, WeightSource& source,
                                        std::shared_ptr<const Tokenizer> tokenizer, const EngineOptions& options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Waits for nobody; hashes pictures, a few milliseconds for ten tiles. kInvalidArgument: the request can never run
  // here (too long for the context or the cache, pictures that do not match their placeholders, unusable sampling); the
  // message has the numbers.
  std::shared_ptr<TokenStream> submit(Request request);

  // A constraint for Request::constraint; the same definition is compiled once. Takes milliseconds, the first time with
  // a large tokenizer tenths of a second. kInvalidArgument: the definition, and where in it; kNotFound without a
  // tokenizer.
  std::shared_ptr<const Constraint> compile(const ConstraintSpec& spec);

  const ModelConfig& config() const;
  const Tokenizer& tokenizer() const;         // kNotFound without one
  const Processor& processor() const;         // kNotFound without a folder
  std::string backend() const;                // the one "auto" became
  int64_t gpu_layers() const;                 // whose experts are on the GPU, the rest's on the CPU; -1: not divided
  const std::filesystem::path& lora() const;  // the adapter that was merged; empty: none
  int64_t max_context() const;
  const MemoryReport& memory() const;
  EngineStats stats() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vl2

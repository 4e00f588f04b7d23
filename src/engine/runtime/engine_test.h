// For tests only: engines over small random models, and prompts for them.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/text/toy_tokenizer.h"
#include "engine/cpu/cpu_isa.h"
#include "engine/model/visual_sequence.h"
#include "engine/runtime/engine.h"

namespace vl2 {

// A backend, and for "cpu" the instruction set.
struct TestBackend {
  std::string name = "cpu";
  std::string isa;  // empty: the best there is

  std::string label() const { return isa.empty() ? name : name + "_" + isa; }
};

inline std::vector<TestBackend> test_backends() {
  std::vector<TestBackend> result = {{"reference", ""}};
  for (const Isa isa : available_isas()) result.push_back({"cpu", std::string(isa_name(isa))});
  return result;
}

inline std::shared_ptr<const Tokenizer> byte_tokenizer() {
  static const auto tokenizer = std::make_shared<const Tokenizer>(parse_toy(toy_tokenizer_json()));
  return tokenizer;
}

inline constexpr uint64_t kTestSeed = 7;

inline std::unique_ptr<Engine> test_engine(const TestBackend& backend, EngineOptions options,
                                           const ModelConfig& config) {
  options.backend = backend.name;
  if (options.compute.threads == 0) options.compute.threads = 2;
  const char* before = std::getenv("VL2_CPU_ISA");
  const std::string kept = before != nullptr ? before : "";
  if (!backend.isa.empty()) ::setenv("VL2_CPU_ISA", backend.isa.c_str(), 1);
  RandomSource source(kTestSeed);
  auto engine = Engine::create(config, source, byte_tokenizer(), options);
  ::setenv("VL2_CPU_ISA", kept.c_str(), 1);
  return engine;
}
inline std::unique_ptr<Engine> test_engine(const TestBackend& backend, EngineOptions options = {},
                                           const std::string& preset = "test-small") {
  return test_engine(backend, std::move(options), preset_config(preset));
}
inline std::unique_ptr<Engine> test_engine(EngineOptions options = {}) {
  return test_engine(TestBackend{}, std::move(options));
}

// Everything is computed each time.
inline EngineOptions without_caches(EngineOptions options = {}) {
  options.prefix_cache = false;
  options.picture_cache_bytes = 0;
  return options;
}

inline TiledImage test_image(const ModelConfig& config, int64_t wide, int64_t high, uint64_t seed) {
  TiledImage image;
  image.tiles_wide = wide;
  image.tiles_high = high;
  image.tile_size = config.vision.image_size;
  image.original_width = wide * image.tile_size;
  image.original_height = high * image.tile_size;
  Random random(seed);
  image.pixels.resize(static_cast<size_t>(image.num_tiles() * image.tile_size * image.tile_size * 3));
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(random.below(256));
  return image;
}

// One local tile, the global view once more: what becomes of a picture that needs no cutting.
inline TiledImage uncut_image(const ModelConfig& config, uint64_t seed) {
  TiledImage image = test_image(config, 1, 1, seed);
  const auto tile = static_cast<int64_t>(image.pixels.size() / 2);
  std::copy_n(image.pixels.begin(), tile, image.pixels.begin() + tile);
  return image;
}

// `text` random ids, the pictures' places somewhere among them.
inline MultimodalPrompt test_prompt(const ModelConfig& config, int64_t text, std::vector<TiledImage> images,
                                    uint64_t seed) {
  MultimodalPrompt prompt;
  Random random(seed);
  const auto add_text = [&](int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      prompt.input_ids.push_back(static_cast<int32_t>(2 + random.below(config.language.vocab_size - 2)));
      prompt.images_seq_mask.push_back(0);
    }
  };
  const auto pieces = static_cast<int64_t>(images.size()) + 1;
  add_text(text / pieces);
  for (const TiledImage& image : images) {
    const int64_t rows = num_visual_tokens(image.tiles_wide, image.tiles_high, config.tokens_per_side());
    prompt.input_ids.insert(prompt.input_ids.end(), static_cast<size_t>(rows), 0);
    prompt.images_seq_mask.insert(prompt.images_seq_mask.end(), static_cast<size_t>(rows), 1);
    prompt.num_image_tokens.push_back(rows);
    add_text(text / pieces);
  }
  add_text(text - text / pieces * pieces);
  prompt.images = std::move(images);
  return prompt;
}

inline Request test_request(MultimodalPrompt prompt, int64_t max_new_tokens = 12) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_new_tokens = max_new_tokens;
  request.ignore_eos = true;  // random models end their answers anywhere
  return request;
}

// Requests of every kind: text, one picture, several, short and long, greedy and sampled.
inline std::vector<Request> mixed_requests(const ModelConfig& config) {
  std::vector<Request> requests;
  requests.push_back(test_request(test_prompt(config, 1, {}, 1), 9));
  requests.push_back(test_request(test_prompt(config, 40, {}, 2), 17));
  requests.push_back(test_request(test_prompt(config, 11, {test_image(config, 1, 1, 3)}, 3), 12));
  requests.push_back(
      test_request(test_prompt(config, 20, {test_image(config, 2, 1, 4), test_image(config, 1, 3, 5)}, 4), 5));
  requests.push_back(test_request(test_prompt(config, 6, {test_image(config, 2, 2, 6)}, 5), 1));
  requests.push_back(test_request(test_prompt(config, 33, {}, 6), 21));
  for (size_t i = 0; i < requests.size(); i += 2) {
    requests[i].sampling.temperature = 0.8;
    requests[i].sampling.top_p = 0.95;
    requests[i].sampling.seed = i + 1;
  }
  requests[1].sampling.repetition_penalty = 1.3;
  return requests;
}

}  // namespace vl2

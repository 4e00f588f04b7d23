#include "apps/cli/drift_cases.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string>

#include "apps/cli/trace_input.h"
#include "core/base/random.h"
#include "core/image/tiling.h"
#include "core/processor/processor.h"

namespace vl2::cli {
namespace {

using Colour = std::array<uint8_t, 3>;

void fill(Image& image, int64_t left, int64_t top, int64_t size, const Colour& colour, bool round) {
  const int64_t radius = size / 2;
  for (int64_t y = 0; y < size; ++y) {
    for (int64_t x = 0; x < size; ++x) {
      const int64_t dx = x - radius, dy = y - radius;
      if (round && dx * dx + dy * dy > radius * radius) continue;
      std::copy(colour.begin(), colour.end(), image.row(top + y) + (left + x) * 3);
    }
  }
}

Image drawing(int64_t width, int64_t height) {
  Image image = make_image(width, height, 240, 240, 232);
  fill(image, width / 12, height / 8, height / 4, {220, 40, 40}, true);
  fill(image, width / 2, height / 2, height / 3, {40, 80, 220}, false);
  return image;
}

TraceCase noise(const ModelConfig& config) {
  constexpr int64_t kTokens = 64;
  Random random(1);
  TraceCase c;
  const int64_t vision = num_vision_tokens({1, 1}, config.tokens_per_side());
  c.images = {{{1, 1}}};
  c.length = kTokens + vision;
  c.image_mask.assign(static_cast<size_t>(c.length), 0);
  std::fill_n(c.image_mask.begin() + kTokens / 2, vision, uint8_t{1});
  c.attention_mask.assign(static_cast<size_t>(c.length), 1);
  for (int64_t t = 0; t < c.length; ++t)
    c.input_ids.push_back(static_cast<int32_t>(random.below(config.language.vocab_size)));
  c.pixels.resize(1);
  c.pixels.front().resize(static_cast<size_t>(2 * 3 * config.tile_size() * config.tile_size()));
  for (float& x : c.pixels.front()) x = random.symmetric(1.0f);
  return c;
}

}  // namespace

std::vector<TraceCase> built_in_cases(const ModelFiles& model) {
  std::error_code ignored;
  if (!std::filesystem::exists(model.folder / "tokenizer.json", ignored)) return {noise(model.config)};
  const Processor processor = Processor::open(model.folder);
  std::vector<TraceCase> cases;
  for (const Image& image : {drawing(384, 384), drawing(640, 360)})
    for (const char* question : {"Describe the picture.", "What colour is the circle?", "How many shapes are there?",
                                 "<|ref|>the blue square<|/ref|>"}) {
      const std::array<Message, 2> messages = {Message{"user", add_placeholders(question, 1)},
                                               Message{"assistant", ""}};
      cases.push_back(case_of_prompt(processor.build(messages, std::span(&image, 1))));
    }
  return cases;
}

}  // namespace vl2::cli

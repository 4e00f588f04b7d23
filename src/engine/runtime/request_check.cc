#include "engine/runtime/request_check.h"

#include <algorithm>

#include "engine/model/visual_sequence.h"
#include "engine/ops/choice.h"
#include "engine/runtime/stop_strings.h"

namespace vl2 {
namespace {

constexpr int kMaxTopLogprobs = 20;
static_assert(kMaxTopLogprobs <= kMostLikelyAtMost, "a device names so many");
constexpr int64_t kMaxTilesASide = 1024;  // far beyond any grid, and products of it do not overflow

void check_images(const MultimodalPrompt& prompt, const ModelConfig& config) {
  const int64_t size = config.vision.image_size;
  int64_t rows = 0;
  for (size_t i = 0; i < prompt.images.size(); ++i) {
    const TiledImage& image = prompt.images[i];
    if (image.tiles_wide < 1 || image.tiles_high < 1 || image.tiles_wide > kMaxTilesASide ||
        image.tiles_high > kMaxTilesASide)
      fail(ErrorCode::kInvalidArgument, "picture {} is cut into {} x {} tiles; 1 to {} a side are possible", i + 1,
           image.tiles_wide, image.tiles_high, kMaxTilesASide);
    if (image.tile_size != size)
      fail(ErrorCode::kInvalidArgument,
           "picture {} is cut into tiles of {} pixels a side, but this model takes {}; prepare it with the model's own "
           "processor",
           i + 1, image.tile_size, size);
    const int64_t bytes = image.num_tiles() * size * size * 3;
    if (static_cast<int64_t>(image.pixels.size()) != bytes)
      fail(ErrorCode::kInvalidArgument, "picture {} has {} bytes of pixels, its {} tiles need {}{}", i + 1,
           image.pixels.size(), image.num_tiles(), bytes,
           image.pixels.empty() ? " (the prompt was built from sizes alone)" : "");
    rows += num_visual_tokens(image.tiles_wide, image.tiles_high, config.tokens_per_side());
  }
  const auto& mask = prompt.images_seq_mask;
  if (!mask.empty() && mask.size() != prompt.input_ids.size())
    fail(ErrorCode::kInvalidArgument, "the prompt has {} tokens, but a mask of {}", prompt.input_ids.size(),
         mask.size());
  const int64_t places = std::count_if(mask.begin(), mask.end(), [](uint8_t m) { return m != 0; });
  if (places != rows)
    fail(ErrorCode::kInvalidArgument, "the prompt has places for {} vision tokens, but its {} pictures make {}", places,
         prompt.images.size(), rows);
}

// "picture 1: 2017 (3 x 3 tiles), picture 2: ..."
std::string picture_costs(const MultimodalPrompt& prompt, const ModelConfig& config) {
  constexpr size_t kListed = 8;
  std::string text;
  for (size_t i = 0; i < std::min(prompt.images.size(), kListed); ++i) {
    const TiledImage& image = prompt.images[i];
    text += fmt::format("{}picture {}: {} ({} x {} tiles)", i == 0 ? "" : ", ", i + 1,
                        num_visual_tokens(image.tiles_wide, image.tiles_high, config.tokens_per_side()),
                        image.tiles_wide, image.tiles_high);
  }
  if (prompt.images.size() > kListed) text += fmt::format(" and {} more", prompt.images.size() - kListed);
  return text;
}

void check_length(const MultimodalPrompt& prompt, const ModelConfig& config, int64_t max_context) {
  const auto length = static_cast<int64_t>(prompt.input_ids.size());
  if (length < max_context) return;
  const std::string pictures =
      prompt.images.empty() ? "" : fmt::format(" Of these, pictures take {}.", picture_costs(prompt, config));
  fail(ErrorCode::kInvalidArgument,
       "the prompt has {} tokens, but the context holds {}, one of which is kept for the answer: {} too many.{} "
       "Shorten the text{}, or open the model with a larger context.",
       length, max_context, length - max_context + 1, pictures,
       prompt.images.empty() ? "" : ", leave out pictures or make them smaller");
}

void check_constraint(const Constraint& constraint, bool ignore_eos, const ModelConfig& config, bool has_tokenizer) {
  if (ignore_eos)
    fail(ErrorCode::kInvalidArgument, "a constrained answer ends where it must, so ignore_eos cannot go with it");
  if (!has_tokenizer)
    fail(ErrorCode::kInvalidArgument, "constraints need a tokenizer, and this engine was made without one");
  const int64_t vocab = config.language.vocab_size, eos = config.language.eos_token_id;
  if (constraint.eos() != eos || constraint.num_ids() > vocab)
    fail(ErrorCode::kInvalidArgument,
         "the constraint was compiled for {} ids that end with {}, this model has {} that end with {}; compile it with "
         "this engine",
         constraint.num_ids(), constraint.eos(), vocab, eos);
}

}  // namespace

void check_request(const Request& request, const ModelConfig& config, int64_t max_context, bool has_tokenizer) {
  const MultimodalPrompt& prompt = request.prompt;
  if (prompt.input_ids.empty()) fail(ErrorCode::kInvalidArgument, "the prompt is empty; give it at least one token");
  const int64_t vocab = config.language.vocab_size;
  for (size_t i = 0; i < prompt.input_ids.size(); ++i)
    if (prompt.input_ids[i] < 0 || prompt.input_ids[i] >= vocab)
      fail(ErrorCode::kInvalidArgument,
           "token {} of the prompt has id {}, outside of the model's vocabulary of {}; the tokenizer may belong to "
           "another model",
           i, prompt.input_ids[i], vocab);
  check_images(prompt, config);
  check_length(prompt, config, max_context);
  if (request.max_new_tokens < 1)
    fail(ErrorCode::kInvalidArgument, "max_new_tokens is {}, expected 1 or more", request.max_new_tokens);
  if (request.top_logprobs < 0 || request.top_logprobs > kMaxTopLogprobs)
    fail(ErrorCode::kInvalidArgument, "top_logprobs is {}, expected 0 to {}", request.top_logprobs, kMaxTopLogprobs);
  validate_sampling(request.sampling);
  validate_logit_bias(request.sampling, vocab);
  StopStrings::check(request.stop);
  if (request.constraint != nullptr) check_constraint(*request.constraint, request.ignore_eos, config, has_tokenizer);
  if (!request.stop.empty() && !has_tokenizer)
    fail(ErrorCode::kInvalidArgument, "stop strings need a tokenizer, and this engine was made without one");
}

}  // namespace vl2

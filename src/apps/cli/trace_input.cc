#include "apps/cli/trace_input.h"

#include <algorithm>

#include "apps/cli/conversation_file.h"
#include "core/image/normalize.h"
#include "core/processor/processor.h"
#include "engine/runtime/request_check.h"

namespace vl2::cli {

TraceCase case_of_prompt(const MultimodalPrompt& prompt) {
  TraceCase c;
  c.length = static_cast<int64_t>(prompt.input_ids.size());
  c.input_ids = prompt.input_ids;
  c.image_mask = prompt.images_seq_mask;
  c.attention_mask.assign(prompt.input_ids.size(), 1);
  c.images.resize(1);
  for (const TiledImage& image : prompt.images) c.images.front().push_back({image.tiles_wide, image.tiles_high});
  c.pixels = {normalized_pixels(prompt)};
  return c;
}

std::vector<float> normalized_pixels(const MultimodalPrompt& prompt) {
  std::vector<float> pixels;
  for (const TiledImage& image : prompt.images) {
    const auto values = static_cast<size_t>(image.tile_size * image.tile_size * 3);
    for (size_t at = 0; at < image.pixels.size(); at += values) {
      pixels.resize(pixels.size() + values);
      normalize(std::span(image.pixels).subspan(at, values), image.tile_size, pixels.data() + pixels.size() - values);
    }
  }
  return pixels;
}

TraceCase case_of_request(const std::string& request, const ModelFiles& model, const PictureOptions& pictures) {
  const ConversationFile conversation = read_conversation(request);
  if (conversation.sizes)
    fail(ErrorCode::kInvalidArgument, "{}: has sizes of pictures; a trace needs the pictures", request);
  Request checked;
  checked.prompt = build_prompt(conversation, Processor::open(model.folder), PromptOptions{}, pictures);
  check_request(checked, model.config, model.config.language.max_position_embeddings, true);
  return case_of_prompt(checked.prompt);
}

Placement place_cases(const ModelFiles& model, std::span<const TraceCase> cases, const ComputeOptions& compute,
                      int64_t new_tokens) {
  MemoryPlanInput input;
  input.format = model.config.quantization;
  input.prefill_chunk = 0;
  for (const TraceCase& c : cases) {
    input.max_context = std::max(input.max_context, c.length + new_tokens);
    input.cached_tokens = std::max(input.cached_tokens, c.batch * (c.length + new_tokens));
    input.max_sequences = std::max(input.max_sequences, c.batch);
  }
  Placement placement = place_model(model.config, input, compute.backend,
                                    compute.backend_options(model.matrix_type, model.config.quantization.has_value()));
  check_placement(placement, model.config, model.folder.string());
  return placement;
}

}  // namespace vl2::cli

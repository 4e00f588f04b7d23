#include "apps/cli/calibrate.h"

#include "apps/cli/model_files.h"
#include "apps/cli/trace_input.h"
#include "core/base/available_memory.h"
#include "engine/backends.h"
#include "engine/model/calibration.h"
#include "engine/runtime/memory_plan.h"
#include "engine/runtime/request_check.h"

namespace vl2::cli {
namespace {

void check_fits(const ModelFiles& model, const BackendOptions& backend) {
  MemoryPlanInput input;
  input.footprint = backend_footprint("auto", backend);
  input.max_context = input.cached_tokens = model.config.language.max_position_embeddings;
  if (const auto available = available_memory())
    check_memory(plan_memory(model.config, input), *available, model.folder.string() + " for --calibrate");
}

SequenceInput sequence_of(const ConversationFile& conversation, const ModelFiles& model, const Processor& processor) {
  if (conversation.sizes)
    fail(ErrorCode::kInvalidArgument, "--calibrate: a conversation has sizes of pictures; give the pictures");
  Request request;
  // With answers to their ends: what the model says is what it will be asked to say.
  PromptOptions options;
  options.training = true;
  request.prompt = build_prompt(conversation, processor, options, PictureOptions{});
  check_request(request, model.config, model.config.language.max_position_embeddings, true);
  const MultimodalPrompt& prompt = request.prompt;
  SequenceInput sequence;
  sequence.ids = prompt.input_ids;
  sequence.is_image.assign(prompt.images_seq_mask.begin(), prompt.images_seq_mask.end());
  for (const TiledImage& image : prompt.images) sequence.images.push_back({image.tiles_wide, image.tiles_high});
  sequence.pixels = normalized_pixels(prompt);
  return sequence;
}

}  // namespace

Importance calibrate(const std::filesystem::path& model_folder, ModelFormat format,
                     const std::vector<ConversationFile>& conversations, int threads, ProgressLine& progress,
                     const std::function<bool()>& cancelled) {
  const ModelFiles model(model_folder);
  const Processor processor = Processor::open(model_folder);
  const BackendOptions backend =
      ComputeOptions{.threads = threads}.backend_options(model.matrix_type, model.config.quantization.has_value());
  check_fits(model, backend);
  const auto ops = make_ops("auto", backend);
  CheckpointSource source(model.checkpoint);
  Calibration calibration(model.config, format, *ops, source, [&](int64_t done, int64_t total) {
    if (cancelled()) fail(ErrorCode::kCancelled, "stopped; nothing was written");
    progress.show("loading to calibrate:", done, total, "tensors");
  });
  const auto total = static_cast<int64_t>(conversations.size());
  for (int64_t i = 0; i < total; ++i) {
    progress.show("calibrating:", i, total, "conversations");
    calibration.run(sequence_of(conversations[static_cast<size_t>(i)], model, processor), cancelled);
  }
  return calibration.importance();
}

}  // namespace vl2::cli

// vl2 prompt: the ids, labels and masks a conversation becomes.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/commands.h"
#include "apps/cli/conversation_file.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/options.h"
#include "apps/cli/terminal.h"

namespace vl2::cli {
namespace {

struct PromptCommandOptions {
  std::string model, tokenizer, conversation;
  PictureOptions pictures;
  bool mask_prompt = false, training = false;
};

Processor open_processor(const PromptCommandOptions& options) {
  if (options.tokenizer.empty()) return Processor::open(find_model(options.model));
  return {Tokenizer::load(options.tokenizer), ProcessorConfig{}};
}

std::string as_json(const MultimodalPrompt& prompt) {
  nlohmann::ordered_json out;
  out["input_ids"] = prompt.input_ids;
  out["labels"] = prompt.labels;
  out["images_seq_mask"] = prompt.images_seq_mask;
  out["images_spatial_crop"] = nlohmann::ordered_json::array();
  for (const TiledImage& image : prompt.images)
    out["images_spatial_crop"].push_back({image.tiles_wide, image.tiles_high});
  // The releases' processor has one row of zeros where there is no picture.
  if (prompt.images.empty()) out["images_spatial_crop"].push_back({0, 0});
  out["num_image_tokens"] = prompt.num_image_tokens;
  return out.dump() + "\n";
}

int run(const PromptCommandOptions& options) {
  const Processor processor = open_processor(options);
  const ConversationFile conversation = read_conversation(options.conversation);
  PromptOptions prompt_options;
  prompt_options.mask_prompt = options.mask_prompt || processor.config().mask_prompt;
  prompt_options.training = options.training;
  prompt_options.spare_images = true;
  const MultimodalPrompt prompt = build_prompt(conversation, processor, prompt_options, options.pictures);
  if (const size_t spare = num_spare_pictures(conversation, prompt); spare > 0)
    write_stderr(fmt::format("vl2 prompt: note: {} picture{} left out, because no <image> stands for {}\n", spare,
                             spare == 1 ? " is" : "s are", spare == 1 ? "it" : "them"));
  write_stdout(as_json(prompt));
  return kExitOk;
}

}  // namespace

RunCommand declare_prompt(CLI::App& app) {
  const auto options = std::make_shared<PromptCommandOptions>();
  app.add_option("conversation", options->conversation, "The conversation; - reads stdin")
      ->type_name("CONV.json")
      ->required();
  add_model_option(app, options->model);
  app.add_option("--tokenizer", options->tokenizer,
                 "A tokenizer.json instead of a model, with the processor settings of the DeepSeek-VL2 releases")
      ->type_name("FILE")
      ->excludes("--model");
  app.add_flag("--mask-prompt", options->mask_prompt, "Labels of system and user text are -100, as for fine-tuning");
  app.add_flag("--training", options->training, "Keep the eos behind the last answer");
  add_picture_options(app, options->pictures);
  app.footer(
      "CONV.json is {\"messages\": [{\"role\": \"user\", \"content\": \"<image>\\nWhat is this?\", \"images\": "
      "[PATH]},\n"
      "{\"role\": \"assistant\", \"content\": \"\"}]}, or has sizes instead of pictures: {\"messages\": [...],\n"
      "\"image_sizes\": [[640, 480]]}. The last message is the assistant's; an empty one asks for an answer. Paths\n"
      "count from the file's folder. Output: one JSON object with input_ids, labels, images_seq_mask,\n"
      "images_spatial_crop (tiles wide and high) and num_image_tokens.\n\n"
      "Example:\n  vl2 prompt -m models/nano conversation.json");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli

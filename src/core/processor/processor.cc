#include "core/processor/processor.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/image/tiling.h"
#include "core/text/utf8.h"

namespace vl2 {
namespace {

constexpr int32_t kIgnored = -100;
constexpr std::string_view kUserTag = "<|User|>", kAssistantTag = "<|Assistant|>";

enum class Role { kSystem, kUser, kAssistant };

Role parse_role(const Message& message, size_t index) {
  const std::string& r = message.role;
  if (r == "user" || r == kUserTag) return Role::kUser;
  if (r == "assistant" || r == kAssistantTag) return Role::kAssistant;
  if (r == "system" || r == "deepseekapi-sys") {
    if (index > 0)
      fail(ErrorCode::kInvalidArgument, "message {}: a system message is possible as the first one only", index + 1);
    return Role::kSystem;
  }
  fail(ErrorCode::kInvalidArgument, "message {}: unknown role \"{}\", expected user, assistant or system", index + 1,
       r.substr(0, 40));
}

int64_t count(std::string_view text, std::string_view what) {
  int64_t n = 0;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++n;
  return n;
}

// Collects one prompt.
class Builder {
 public:
  Builder(const Processor& processor, std::span<const ImageSize> sizes, std::span<const Image> images,
          const PromptOptions& options)
      : processor_(processor), sizes_(sizes), images_(images), options_(options), dynamic_tiling_(sizes.size() <= 2) {}

  MultimodalPrompt build(std::span<const Message> messages) {
    check(messages);
    token(processor_.special().bos, true);
    for (size_t i = 0; i < messages.size(); ++i) {
      const std::string content(python_strip(messages[i].content));
      switch (parse_role(messages[i], i)) {
        case Role::kSystem:
          text(content, !options_.mask_prompt);
          break;
        case Role::kUser:
          text(content.empty() ? fmt::format("{}:{}:", kUserTag, kAssistantTag)
                               : fmt::format("{}: {}\n\n{}:", kUserTag, content, kAssistantTag),
               !options_.mask_prompt);
          break;
        case Role::kAssistant:
          text(content, true);
          token(processor_.special().eos, true);
          break;
      }
    }
    if (!options_.training) {  // where the answer goes on
      prompt_.input_ids.pop_back();
      prompt_.labels.pop_back();
      prompt_.images_seq_mask.pop_back();
    }
    return std::move(prompt_);
  }

 private:
  void check(std::span<const Message> messages) const {
    if (messages.empty()) fail(ErrorCode::kInvalidArgument, "the conversation is empty: give at least one message");
    const std::string& placeholder = processor_.config().image_token;
    int64_t placeholders = 0;
    Role last = Role::kSystem;
    for (size_t i = 0; i < messages.size(); ++i) {
      last = parse_role(messages[i], i);
      const int64_t here = count(messages[i].content, placeholder);
      if (last == Role::kAssistant && here > 0)
        fail(ErrorCode::kInvalidArgument, "message {}: an assistant's message cannot contain {}", i + 1, placeholder);
      placeholders += here;
    }
    if (!options_.training && last != Role::kAssistant)
      fail(ErrorCode::kInvalidArgument,
           "the last message must be the assistant's: empty for a fresh answer, or the beginning of one");
    const auto given = static_cast<int64_t>(sizes_.size());
    if (placeholders > given || (placeholders < given && !options_.spare_images))
      fail(ErrorCode::kInvalidArgument, "the text has {} {} placeholder{}, but there {} {} picture{}", placeholders,
           placeholder, placeholders == 1 ? "" : "s", given == 1 ? "is" : "are", given, given == 1 ? "" : "s");
  }

  void token(int32_t id, bool supervised) {
    prompt_.input_ids.push_back(id);
    prompt_.labels.push_back(supervised ? id : kIgnored);
    prompt_.images_seq_mask.push_back(0);
  }

  // The pieces between placeholders are encoded each by itself (golden quirk 24).
  void text(std::string_view content, bool supervised) {
    const std::string& placeholder = processor_.config().image_token;
    while (true) {
      const size_t at = content.find(placeholder);
      for (int32_t id : processor_.tokenizer().encode(content.substr(0, at))) token(id, supervised);
      if (at == content.npos) return;
      image();
      content.remove_prefix(at + placeholder.size());
    }
  }

  void image() {
    const size_t index = next_image_++;
    const ImageSize size = sizes_[index];
    const ProcessorConfig& config = processor_.config();
    const TileGrid grid = choose_grid(size.width, size.height, config.candidate_resolutions, dynamic_tiling_);
    check_can_tile(size.width, size.height, grid, config.tile_size(), fmt::format("picture {}", index + 1));
    TiledImage tiled;
    tiled.original_width = size.width;
    tiled.original_height = size.height;
    tiled.tiles_wide = grid.wide;
    tiled.tiles_high = grid.high;
    tiled.tile_size = config.tile_size();
    if (!images_.empty()) tiled.pixels = cut_tiles(images_[index], grid, config.tile_size());
    const int64_t tokens = num_vision_tokens(grid, config.tokens_per_side());
    const auto n = static_cast<size_t>(tokens);
    prompt_.input_ids.insert(prompt_.input_ids.end(), n, processor_.special().image);
    prompt_.labels.insert(prompt_.labels.end(), n, kIgnored);
    prompt_.images_seq_mask.insert(prompt_.images_seq_mask.end(), n, 1);
    prompt_.num_image_tokens.push_back(tokens);
    prompt_.images.push_back(std::move(tiled));
  }

  const Processor& processor_;
  const std::span<const ImageSize> sizes_;
  const std::span<const Image> images_;
  const PromptOptions options_;
  const bool dynamic_tiling_;
  size_t next_image_ = 0;
  MultimodalPrompt prompt_;
};

int32_t required(const Tokenizer& tokenizer, const std::string& text, const char* what) {
  const std::optional<int32_t> id = tokenizer.token_id(text);
  if (!id) fail(ErrorCode::kCorrupt, "the tokenizer has no token \"{}\", which this model needs as its {}", text, what);
  return *id;
}

}  // namespace

Processor Processor::open(const std::filesystem::path& folder) {
  return {Tokenizer::load(folder), load_processor_config(folder)};
}

Processor::Processor(Tokenizer tokenizer, ProcessorConfig config) : config_(std::move(config)) {
  special_.bos = required(tokenizer, config_.bos_token, "beginning of sentence");
  special_.eos = required(tokenizer, config_.eos_token, "end of sentence");
  // In the reference's order: a tokenizer that lacks them all gets the releases' ids.
  special_.pad = tokenizer.add_special_token(config_.pad_token);
  special_.image = tokenizer.add_special_token(config_.image_token);
  special_.ref = tokenizer.add_special_token("<|ref|>");
  special_.ref_end = tokenizer.add_special_token("<|/ref|>");
  special_.det = tokenizer.add_special_token("<|det|>");
  special_.det_end = tokenizer.add_special_token("<|/det|>");
  special_.grounding = tokenizer.add_special_token("<|grounding|>");
  special_.user = tokenizer.add_special_token(kUserTag);
  special_.assistant = tokenizer.add_special_token(kAssistantTag);
  tokenizer_ = std::make_shared<const Tokenizer>(std::move(tokenizer));
}

MultimodalPrompt Processor::build(std::span<const Message> messages, std::span<const Image> images,
                                  const PromptOptions& options) const {
  std::vector<ImageSize> sizes;
  for (const Image& image : images) sizes.push_back({image.width, image.height});
  return Builder(*this, sizes, images, options).build(messages);
}

MultimodalPrompt Processor::build_from_sizes(std::span<const Message> messages, std::span<const ImageSize> sizes,
                                             const PromptOptions& options) const {
  for (const ImageSize& size : sizes)
    if (size.width < 1 || size.height < 1)
      fail(ErrorCode::kInvalidArgument, "a picture of {} x {} has no pixels", size.width, size.height);
  return Builder(*this, sizes, {}, options).build(messages);
}

}  // namespace vl2

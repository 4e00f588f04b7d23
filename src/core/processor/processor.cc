#include "core/processor/processor.h"

#include <array>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/image/tiling.h"
#include "core/text/utf8.h"

namespace vl2 {
namespace {

constexpr int32_t kIgnored = -100;
constexpr size_t kMaxDynamicImages = 2;  // with more in a conversation every one is cut 1 x 1 (spec/model.md 2.8)

ChatRole role_of(const Message& message, size_t index) {
  const std::optional<ChatRole> role = chat_role(message.role);
  if (!role)
    fail(ErrorCode::kInvalidArgument, "message {}: unknown role \"{}\", expected user, assistant or system", index + 1,
         repair_utf8(std::string_view(message.role).substr(0, 40)));
  if (role == ChatRole::kSystem && index > 0)
    fail(ErrorCode::kInvalidArgument, "message {}: a system message is possible as the first one only", index + 1);
  return *role;
}

// Collects one prompt.
class Builder {
 public:
  Builder(const Processor& processor, std::span<const ImageSize> sizes, std::span<const Image> images,
          const PromptOptions& options)
      : processor_(processor),
        sizes_(sizes),
        images_(images),
        options_(options),
        placeholder_(options.placeholder.empty() ? std::string_view(processor.config().image_token)
                                                 : options.placeholder),
        dynamic_tiling_(sizes.size() <= kMaxDynamicImages) {
    const SpecialTokens& s = processor.special();
    markup_ = {s.ref, s.ref_end, s.det, s.det_end, s.grounding};
  }

  MultimodalPrompt build(std::span<const Message> messages) {
    check(messages);
    token(processor_.special().bos, true);
    for (size_t i = 0; i < messages.size(); ++i) {
      const std::string_view content = python_strip(messages[i].content);
      const bool prompt_supervised = messages[i].supervised.value_or(!options_.mask_prompt);
      const bool answer_supervised = messages[i].supervised.value_or(true);
      switch (role_of(messages[i], i)) {
        case ChatRole::kSystem:
          text(content, prompt_supervised);
          break;
        case ChatRole::kUser:
          question(content, prompt_supervised);
          break;
        case ChatRole::kAssistant:
          text(content, answer_supervised);
          if (options_.training || i + 1 < messages.size()) token(processor_.special().eos, answer_supervised);
          break;
      }
      prompt_.message_ends.push_back(static_cast<int64_t>(prompt_.input_ids.size()));
    }
    return std::move(prompt_);
  }

  MultimodalPrompt build_raw(std::string_view content) {
    check_count(placeholders(content));
    token(processor_.special().bos, true);
    text(content, true);
    if (options_.training) token(processor_.special().eos, true);
    return std::move(prompt_);
  }

 private:
  size_t placeholders(std::string_view content) const { return count_placeholders(content, placeholder_); }

  void check(std::span<const Message> messages) const {
    if (messages.empty()) fail(ErrorCode::kInvalidArgument, "the conversation is empty: give at least one message");
    size_t total = 0;
    ChatRole last = ChatRole::kSystem;
    for (size_t i = 0; i < messages.size(); ++i) {
      last = role_of(messages[i], i);
      const size_t here = placeholders(messages[i].content);
      if (last != ChatRole::kUser && here > 0)
        fail(ErrorCode::kInvalidArgument, "message {}: {} message cannot contain {}: give pictures to a user's", i + 1,
             last == ChatRole::kSystem ? "a system" : "an assistant's", placeholder_);
      total += here;
    }
    if (!options_.training && last != ChatRole::kAssistant)
      fail(ErrorCode::kInvalidArgument,
           "the last message must be the assistant's: empty for a fresh answer, or the beginning of one");
    check_count(total);
  }

  void check_count(size_t placeholders) const {
    const size_t given = sizes_.size();
    if (placeholders > given || (placeholders < given && !options_.spare_images))
      fail(ErrorCode::kInvalidArgument, "the text has {} {} placeholder{}, but there {} {} picture{}", placeholders,
           processor_.config().image_token, placeholders == 1 ? "" : "s", given == 1 ? "is" : "are", given,
           given == 1 ? "" : "s");
    for (size_t i = 0; i < placeholders; ++i)
      if (sizes_[i].width < 1 || sizes_[i].height < 1)
        fail(ErrorCode::kInvalidArgument, "picture {} is {} x {}: it has no pixels", i + 1, sizes_[i].width,
             sizes_[i].height);
  }

  void token(int32_t id, bool supervised) {
    prompt_.input_ids.push_back(id);
    prompt_.labels.push_back(supervised ? id : kIgnored);
    prompt_.images_seq_mask.push_back(0);
  }

  // Encoded as one string, because spaces and line breaks join what stands beside them.
  void question(std::string_view content, bool supervised) {
    const std::string all = format_question(content);
    if (!options_.untrusted) return text(all, supervised);
    token(processor_.special().user, supervised);
    const std::string_view inner = std::string_view(all).substr(kUserRole.size());
    const size_t answer = inner.size() - 1 - kAssistantRole.size();  // "<|Assistant|>:"
    text(inner.substr(0, answer), supervised);
    token(processor_.special().assistant, supervised);
    text(":", supervised);
  }

  // The pieces between placeholders are encoded each by itself (golden quirk 24).
  void text(std::string_view content, bool supervised) {
    while (true) {
      const size_t at = content.find(placeholder_);
      const std::string_view piece = content.substr(0, at);
      const Tokenizer& tokenizer = processor_.tokenizer();
      for (int32_t id : options_.untrusted ? tokenizer.encode(piece, markup_) : tokenizer.encode(piece))
        token(id, supervised);
      if (at == content.npos) return;
      image();
      content.remove_prefix(at + placeholder_.size());
    }
  }

  void image() {
    const size_t index = next_image_++;
    if (index >= sizes_.size())  // placeholders were counted in the messages
      fail(ErrorCode::kCorrupt, "the image token \"{}\" is part of the chat template; processor_config.json is wrong",
           placeholder_);
    const ImageSize size = sizes_[index];
    const ProcessorConfig& config = processor_.config();
    const PictureDetail detail = index < options_.details.size() ? options_.details[index] : PictureDetail::kAuto;
    const bool dynamic = detail == PictureDetail::kAuto ? dynamic_tiling_ : detail == PictureDetail::kHigh;
    const TileGrid grid = choose_grid(size.width, size.height, config.candidate_resolutions, dynamic);
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
  const std::string_view placeholder_;
  const bool dynamic_tiling_;
  std::array<int32_t, 5> markup_{};  // what may be special in untrusted text
  size_t next_image_ = 0;
  MultimodalPrompt prompt_;
};

std::vector<ImageSize> sizes_of(std::span<const Image> images) {
  std::vector<ImageSize> sizes;
  sizes.reserve(images.size());
  for (const Image& image : images) sizes.push_back({image.width, image.height});
  return sizes;
}

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
  special_.user = tokenizer.add_special_token(kUserRole);
  special_.assistant = tokenizer.add_special_token(kAssistantRole);
  tokenizer_ = std::make_shared<const Tokenizer>(std::move(tokenizer));
}

MultimodalPrompt Processor::build(std::span<const Message> messages, std::span<const Image> images,
                                  const PromptOptions& options) const {
  const std::vector<ImageSize> sizes = sizes_of(images);
  return Builder(*this, sizes, images, options).build(messages);
}

MultimodalPrompt Processor::build_from_sizes(std::span<const Message> messages, std::span<const ImageSize> sizes,
                                             const PromptOptions& options) const {
  return Builder(*this, sizes, {}, options).build(messages);
}

MultimodalPrompt Processor::build_raw(std::string_view text, std::span<const Image> images,
                                      const PromptOptions& options) const {
  const std::vector<ImageSize> sizes = sizes_of(images);
  return Builder(*this, sizes, images, options).build_raw(text);
}

MultimodalPrompt Processor::build_raw_from_sizes(std::string_view text, std::span<const ImageSize> sizes,
                                                 const PromptOptions& options) const {
  return Builder(*this, sizes, {}, options).build_raw(text);
}

}  // namespace vl2

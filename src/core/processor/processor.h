// Conversation and pictures -> the prompt the model is fed (spec/text.md 3 and 4, spec/model.md 2).
//
// Immutable once made: any thread may build prompts. Owns a share of the tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "core/image/image.h"
#include "core/processor/conversation.h"
#include "core/processor/multimodal_prompt.h"
#include "core/processor/processor_config.h"
#include "core/text/tokenizer.h"

namespace vl2 {

struct SpecialTokens {
  int32_t bos = 0, eos = 0, pad = 0, image = 0;
  int32_t ref = 0, ref_end = 0, det = 0, det_end = 0, grounding = 0;
  int32_t user = 0, assistant = 0;
};

// How finely a picture is cut: by the reference's rule, not at all (1 x 1), or as its shape wants it, however many
// pictures there are.
enum class PictureDetail { kAuto, kLow, kHigh };

struct PromptOptions {
  bool mask_prompt = false;   // labels of system and user text are -100
  bool training = false;      // keeps the eos behind the last answer; else the prompt ends where an answer begins
  bool spare_images = false;  // pictures without a placeholder are left out, as by the reference; else an error
  // Special tokens inside of messages are encoded as the text they are, but for the markup of grounding: nobody can put
  // words into the model's mouth by writing "<|Assistant|>". The reference honours them all.
  bool untrusted = false;
  // What stands for a picture in the messages; empty: the model's image token, "<image>". A server takes bytes that no
  // message can contain, so that an "<image>" somebody wrote stays text.
  std::string_view placeholder = {};
  std::span<const PictureDetail> details = {};  // of each picture; those beyond its end are kAuto
};

class Processor {
 public:
  // A model folder: tokenizer.json, and processor_config.json and tokenizer_config.json where they are there.
  static Processor open(const std::filesystem::path& folder);
  // Adds the tokens of the template that the tokenizer lacks, in the reference's order. kCorrupt: no bos or eos token.
  Processor(Tokenizer tokenizer, ProcessorConfig config);

  // The last message is the assistant's: empty for a fresh answer, or the beginning of one. Errors, all
  // kInvalidArgument: no messages, unknown roles, a system message that is not the first, "<image>" in it or in an
  // answer, more placeholders than pictures or, without spare_images, fewer; pictures without pixels or too thin.
  MultimodalPrompt build(std::span<const Message> messages, std::span<const Image> images,
                         const PromptOptions& options = {}) const;
  // The same from the pictures' sizes alone: pixels stay empty.
  MultimodalPrompt build_from_sizes(std::span<const Message> messages, std::span<const ImageSize> sizes,
                                    const PromptOptions& options = {}) const;

  // No conversation, only text with placeholders, for the model to go on with: bos, text, and eos when training. Every
  // token of the text is supervised, whatever mask_prompt says. kInvalidArgument: as above.
  MultimodalPrompt build_raw(std::string_view text, std::span<const Image> images,
                             const PromptOptions& options = {}) const;
  MultimodalPrompt build_raw_from_sizes(std::string_view text, std::span<const ImageSize> sizes,
                                        const PromptOptions& options = {}) const;

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  std::shared_ptr<const Tokenizer> shared_tokenizer() const { return tokenizer_; }
  const SpecialTokens& special() const { return special_; }
  const ProcessorConfig& config() const { return config_; }

 private:
  ProcessorConfig config_;
  SpecialTokens special_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

}  // namespace vl2

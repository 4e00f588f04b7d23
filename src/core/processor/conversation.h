// What people say to the model, before it is tokens. Plain data and pure functions: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/image/image.h"
#include "core/text/chat_template.h"

namespace vl2 {

// role: "user", "assistant" or "system" (first only), or the template's own "<|User|>", "<|Assistant|>",
// "deepseekapi-sys". content: "<image>" stands for the next picture of the whole conversation; only in a user's.
struct Message {
  std::string role;
  std::string content;
  // Whether its tokens are labels when training; absent: as its role and PromptOptions::mask_prompt say.
  std::optional<bool> supervised = std::nullopt;
};

// How often "<image>", or what the model's processor_config.json has in its place, stands in the text.
size_t count_placeholders(std::string_view text, std::string_view placeholder = "<image>");

// The usual form of a question about pictures that names none of them: the missing placeholders come first, each on a
// line of its own. What is there already stays as it is, more than `images` too.
std::string add_placeholders(std::string_view question, size_t images, std::string_view placeholder = "<image>");

// The reference's readable form of a conversation ("sft_format" in its results), contents stripped. Not what is
// encoded: core/text/chat_template.h says why.
std::string format_conversation(std::span<const Message> messages, std::string_view system = "",
                                ChatTemplate format = ChatTemplate::kDeepSeek);

}  // namespace vl2

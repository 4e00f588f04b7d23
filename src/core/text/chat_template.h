// A conversation as one string, as the reference's four templates write it (spec/text.md 3, golden quirk 23).
//
// The releases' prompts are not made of this string: core/processor encodes turn by turn. It is for people to read, and
// for prompts that are plain text: captions in the first stage of training, and the reference's own raw prompts.
// Pure functions: any thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace vl2 {

inline constexpr std::string_view kUserRole = "<|User|>", kAssistantRole = "<|Assistant|>";

enum class ChatRole { kSystem, kUser, kAssistant };

// "user", "assistant" and "system", or the template's own "<|User|>", "<|Assistant|>", "deepseekapi-sys".
std::optional<ChatRole> chat_role(std::string_view name);

// processor_config.json's sft_format; kDeepSeek in every release.
enum class ChatTemplate { kDeepSeek, kDeepSeekV2, kPlain, kAlignment };

// "deepseek", "deepseekv2", "plain", "alignment"
std::optional<ChatTemplate> chat_template(std::string_view name);

// Roles are printed as they come. Empty text is where an answer goes.
struct ChatTurn {
  std::string_view role;
  std::string_view text;
};

// What stands behind a turn depends on its number and not on its role, as in the reference: turns at even numbers,
// from 0, are taken for the user's. `system` stands in front of all turns; kPlain and kAlignment leave it out.
std::string format_chat(ChatTemplate format, std::string_view system, std::span<const ChatTurn> turns);

// A user's turn up to where the answer begins: "<|User|>: text\n\n<|Assistant|>:".
std::string format_question(std::string_view text);

}  // namespace vl2

#include "core/text/chat_template.h"

#include <array>
#include <cstddef>

namespace vl2 {
namespace {

constexpr std::string_view kEos = "<｜end▁of▁sentence｜>", kSftBegin = "<｜sft▁begin｜>\n", kSftEnd = "\n<｜sft▁end｜>";

bool is_users(size_t turn) { return turn % 2 == 0; }

std::string deepseek(std::string_view system, std::span<const ChatTurn> turns) {
  std::string text;
  if (!system.empty()) text.append(system).append("\n\n");
  for (size_t i = 0; i < turns.size(); ++i) {
    text.append(turns[i].role).append(":");
    if (!turns[i].text.empty()) text.append(" ").append(turns[i].text).append(is_users(i) ? "\n\n" : kEos);
  }
  return text;
}

// Only a role spelled "User" is framed; the template's own roles are spelled otherwise, so in practice no turn is.
std::string deepseek_v2(std::string_view system, std::span<const ChatTurn> turns) {
  std::string text;
  if (!system.empty()) text.append(system).append(kSftEnd);
  for (const ChatTurn& turn : turns) {
    if (turn.text.empty()) continue;
    if (turn.role == "User")
      text.append(kSftBegin).append(turn.text).append(kSftEnd);
    else
      text.append(turn.text).append(kEos);
  }
  return text;
}

std::string plain(std::span<const ChatTurn> turns) {
  std::string text;
  for (const ChatTurn& turn : turns) text.append(turn.text);
  return text;
}

// Whatever the user says becomes a picture: for captions.
std::string alignment(std::span<const ChatTurn> turns) {
  std::string text;
  for (size_t i = 0; i < turns.size(); ++i)
    if (!turns[i].text.empty()) text.append(is_users(i) ? "<image>\n" : turns[i].text);
  return text;
}

}  // namespace

std::optional<ChatRole> chat_role(std::string_view name) {
  if (name == "user" || name == kUserRole) return ChatRole::kUser;
  if (name == "assistant" || name == kAssistantRole) return ChatRole::kAssistant;
  if (name == "system" || name == "deepseekapi-sys") return ChatRole::kSystem;
  return std::nullopt;
}

std::optional<ChatTemplate> chat_template(std::string_view name) {
  if (name == "deepseek") return ChatTemplate::kDeepSeek;
  if (name == "deepseekv2") return ChatTemplate::kDeepSeekV2;
  if (name == "plain") return ChatTemplate::kPlain;
  if (name == "alignment") return ChatTemplate::kAlignment;
  return std::nullopt;
}

std::string format_chat(ChatTemplate format, std::string_view system, std::span<const ChatTurn> turns) {
  switch (format) {
    case ChatTemplate::kDeepSeekV2:
      return deepseek_v2(system, turns);
    case ChatTemplate::kPlain:
      return plain(turns);
    case ChatTemplate::kAlignment:
      return alignment(turns);
    case ChatTemplate::kDeepSeek:
      break;
  }
  return deepseek(system, turns);
}

std::string format_question(std::string_view text) {
  const std::array<ChatTurn, 2> turns = {{{kUserRole, text}, {kAssistantRole, ""}}};
  return deepseek("", turns);
}

}  // namespace vl2

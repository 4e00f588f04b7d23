#include "core/processor/conversation.h"

#include <vector>

#include "core/text/utf8.h"

namespace vl2 {

size_t count_placeholders(std::string_view text, std::string_view placeholder) {
  if (placeholder.empty()) return 0;
  size_t count = 0;
  for (size_t at = text.find(placeholder); at != text.npos; at = text.find(placeholder, at + placeholder.size()))
    ++count;
  return count;
}

std::string add_placeholders(std::string_view question, size_t images, std::string_view placeholder) {
  std::string text;
  for (size_t present = count_placeholders(question, placeholder); present < images; ++present)
    text.append(placeholder).append("\n");
  return text.append(question);
}

std::string format_conversation(std::span<const Message> messages, std::string_view system, ChatTemplate format) {
  std::vector<ChatTurn> turns;
  turns.reserve(messages.size());
  for (const Message& message : messages) turns.push_back({message.role, python_strip(message.content)});
  return std::string(python_strip(format_chat(format, system, turns)));
}

}  // namespace vl2

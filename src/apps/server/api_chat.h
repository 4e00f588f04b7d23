// The messages of a request as the processor takes them, and the pictures they name.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/processor/conversation.h"
#include "core/processor/processor.h"

namespace vl2::server {

// Stands for a picture in Message::content: a byte that is nowhere in UTF-8, and so in no text of a client.
inline constexpr std::string_view kPictureMark = "\xff";

struct MediaSource {
  std::string url;
  std::string param;  // "messages[0].content[1].image_url"
  PictureDetail detail = PictureDetail::kAuto;
};

struct ChatMessages {
  std::vector<Message> messages;  // ends with the assistant's: empty, or the beginning of the answer
  std::vector<MediaSource> pictures;
};

// Whose spelling: OpenAI's chat completions, OpenAI's Responses, Anthropic's Messages, Ollama's chat.
enum class Dialect { kChat, kResponses, kAnthropic, kOllama };

// The list of messages at body[key]. Parts keep their order; a picture and its neighbours stand on lines of their own
// where they bring no white space along, as in the reference's prompts. System and developer messages come first and
// become one; neighbours of one role become one message. `system` stands before all of them. ApiError 400.
ChatMessages parse_messages(const nlohmann::json& body, const std::string& key, Dialect dialect,
                            const std::string& system = "");
inline ChatMessages parse_chat_messages(const nlohmann::json& body) {
  return parse_messages(body, "messages", Dialect::kChat);
}

// One question of the user, pictures first. ApiError 400.
ChatMessages one_question(const std::string& text, std::vector<MediaSource> pictures, const std::string& system);

// The content of one message of the user: a text or a list of parts. ApiError 400.
std::string parse_content(const nlohmann::json& value, const std::string& param, std::vector<MediaSource>& pictures);

// A text, or a list of text parts, joined: instructions and system prompts. ApiError 400.
std::string parse_text(const nlohmann::json& value, const std::string& param);

// An image_url: {"url": ..., "detail": "auto" | "low" | "high"}, or the URL alone.
MediaSource parse_image_url(const nlohmann::json& value, const std::string& param);

}  // namespace vl2::server

// The messages of a request as the processor takes them, and the pictures they name.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/processor/conversation.h"

namespace vl2::server {

// Stands for a picture in Message::content: a byte that is nowhere in UTF-8, and so in no text of a client.
inline constexpr std::string_view kPictureMark = "\xff";

struct MediaSource {
  std::string url;
  std::string param;  // "messages[0].content[1].image_url"
};

struct ChatMessages {
  std::vector<Message> messages;  // ends with the assistant's: empty, or the beginning of the answer
  std::vector<MediaSource> pictures;
};

// body["messages"]. Parts keep their order; a picture and its neighbours stand on lines of their own where they bring
// no white space along, as in the reference's prompts. System and developer messages come first and become one;
// neighbours of one role become one message. ApiError 400.
ChatMessages parse_chat_messages(const nlohmann::json& body);

// An image_url: {"url": ..., "detail": "auto" | "low" | "high"}, or the URL alone.
MediaSource parse_image_url(const nlohmann::json& value, const std::string& param);

}  // namespace vl2::server

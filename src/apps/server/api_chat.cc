#include "apps/server/api_chat.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "core/base/json.h"

namespace vl2::server {
namespace {

using nlohmann::json;

bool ends_with_space(const std::string& text) { return text.empty() || text.ends_with(' ') || text.ends_with('\n'); }

// The content of one message, put together part by part.
class Content {
 public:
  Content(std::string role, std::string param, std::vector<MediaSource>& pictures)
      : role_(std::move(role)), param_(std::move(param)), pictures_(pictures) {}

  void add_text(const std::string& text) {
    if (text.empty()) return;
    const bool apart = after_picture_ ? text.front() != '\n' : !text_.empty();
    if (apart) text_ += '\n';
    text_ += text;
    after_picture_ = false;
  }

  void add_picture(MediaSource source) {
    if (role_ != "user")
      throw ApiError(400, fmt::format("{}: pictures belong to a user's message", source.param), "unsupported_value",
                     source.param);
    if (!ends_with_space(text_)) text_ += '\n';
    text_ += kPictureMark;
    after_picture_ = true;
    pictures_.push_back(std::move(source));
  }

  void add_part(const json& part, const std::string& param) {
    const Fields fields(part, param);
    const std::string type = fields.string("type").value_or("");
    if (type == "text" || (type == "refusal" && role_ == "assistant")) {
      const auto text = fields.string(type);
      if (!text) fields.reject(type, "a string");
      return add_text(*text);
    }
    if (type == "image_url") {
      const json* value = fields.find("image_url");
      if (value == nullptr) fields.reject("image_url", "{\"url\": ...}");
      return add_picture(parse_image_url(*value, fields.name("image_url")));
    }
    if (type == "file" || type == "input_audio")
      fields.reject("type", fmt::format("text or image_url: parts of type \"{}\" are not supported", type),
                    "unsupported_value");
    fields.reject("type", "text or image_url", "unsupported_value");
  }

  std::string take() { return std::move(text_); }

 private:
  const std::string role_, param_;
  std::vector<MediaSource>& pictures_;
  std::string text_;
  bool after_picture_ = false;
};

std::string role_of(const Fields& fields) {
  const auto role = fields.string("role");
  if (!role) fields.reject("role", "system, developer, user or assistant");
  if (*role == "developer") return "system";
  if (*role != "system" && *role != "user" && *role != "assistant")
    fields.reject("role", "system, developer, user or assistant", "unsupported_value");
  return *role;
}

std::string content_of(const json& message, const std::string& role, const std::string& param,
                       std::vector<MediaSource>& pictures) {
  const Fields fields(message, param);
  if (const json* calls = fields.find("tool_calls"); calls != nullptr && !calls->empty())
    fields.reject("tool_calls", "nothing: tools are not supported", "unsupported_value");
  const json* content = fields.find("content");
  if (content == nullptr && role == "assistant") return "";
  if (content == nullptr || !(content->is_string() || content->is_array()))
    fields.reject("content", "a string or a list of parts");
  if (content->is_string()) return content->get<std::string>();
  Content parts(role, param, pictures);
  for (size_t i = 0; i < content->size(); ++i) parts.add_part((*content)[i], fmt::format("{}.content[{}]", param, i));
  return parts.take();
}

}  // namespace

MediaSource parse_image_url(const json& value, const std::string& param) {
  if (value.is_string()) return {value.get<std::string>(), param};
  const Fields fields(value, param);
  const auto url = fields.string("url");
  if (!url) fields.reject("url", "a string");
  // What a picture costs is the reference's rule for all three: the grid follows from its shape, and the processor has
  // no way to choose another one for a single picture.
  const std::string detail = fields.string("detail").value_or("auto");
  if (detail != "auto" && detail != "low" && detail != "high")
    fields.reject("detail", "auto, low or high", "unsupported_value");
  return {*url, param};
}

ChatMessages parse_chat_messages(const json& body) {
  const Fields fields(body);
  const json* list = fields.find("messages");
  if (list == nullptr || !list->is_array() || list->empty()) fields.reject("messages", "a list of messages");
  ChatMessages result;
  bool asked = false;
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string param = fmt::format("messages[{}]", i);
    const Fields message((*list)[i], param);
    const std::string role = role_of(message);
    std::string content = content_of((*list)[i], role, param, result.pictures);
    std::vector<Message>& messages = result.messages;
    if (!messages.empty() && messages.back().role == role) {
      messages.back().content += "\n" + content;
      continue;
    }
    if (role == "system" && !messages.empty())
      throw ApiError(400, param + ": system and developer messages are possible at the beginning only",
                     "unsupported_value", param + ".role");
    asked |= role == "user";
    messages.push_back({role, std::move(content)});
  }
  if (!asked) fields.reject("messages", "at least one message of the user");
  if (result.messages.back().role != "assistant") result.messages.push_back({"assistant", ""});
  return result;
}

}  // namespace vl2::server

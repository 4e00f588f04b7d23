#include "apps/server/api_chat.h"

#include <algorithm>
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

PictureDetail parse_detail(const Fields& fields) {
  const std::string detail = fields.string("detail").value_or("auto");
  if (detail == "low") return PictureDetail::kLow;
  if (detail == "high") return PictureDetail::kHigh;
  if (detail != "auto") fields.reject("detail", "auto, low or high", "unsupported_value");
  return PictureDetail::kAuto;
}

// The content of one message, put together part by part.
class Content {
 public:
  Content(std::string role, Dialect dialect, std::vector<MediaSource>& pictures)
      : role_(std::move(role)), dialect_(dialect), pictures_(pictures) {}

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
    if (is_text(type)) {
      const char* key = type == "refusal" ? "refusal" : "text";
      const auto text = fields.string(key);
      if (!text) fields.reject(key, "a string");
      return add_text(*text);
    }
    if (type == picture_type()) return add_picture(picture_of(fields));
    fields.reject("type", fmt::format("{} or {}", text_type(), picture_type()), "unsupported_value");
  }

  std::string take() { return std::move(text_); }

 private:
  bool is_text(const std::string& type) const {
    if (type == "text") return dialect_ != Dialect::kResponses;
    if (type == "refusal") return dialect_ != Dialect::kAnthropic && role_ == "assistant";
    if (type == "output_text") return dialect_ == Dialect::kResponses && role_ == "assistant";
    return type == "input_text" && dialect_ == Dialect::kResponses;
  }
  const char* text_type() const { return dialect_ == Dialect::kResponses ? "input_text" : "text"; }
  const char* picture_type() const {
    if (dialect_ == Dialect::kResponses) return "input_image";
    return dialect_ == Dialect::kAnthropic ? "image" : "image_url";
  }

  MediaSource picture_of(const Fields& fields) const {
    if (dialect_ == Dialect::kAnthropic) return anthropic_picture(fields);
    const json* value = fields.find("image_url");
    if (value == nullptr) fields.reject("image_url", dialect_ == Dialect::kResponses ? "a URL" : "{\"url\": ...}");
    MediaSource source = parse_image_url(*value, fields.name("image_url"));
    if (dialect_ == Dialect::kResponses) source.detail = parse_detail(fields);
    return source;
  }

  static MediaSource anthropic_picture(const Fields& fields) {
    const json* source = fields.find("source");
    if (source == nullptr) fields.reject("source", "{\"type\": \"base64\", \"data\": ...}");
    const Fields inner(*source, fields.name("source"));
    const std::string type = inner.string("type").value_or("");
    if (type != "base64" && type != "url") inner.reject("type", "base64 or url", "unsupported_value");
    const char* key = type == "url" ? "url" : "data";
    const auto value = inner.string(key);
    if (!value) inner.reject(key, "a string");
    return {type == "url" ? *value : "data:;base64," + *value, inner.name(key)};
  }

  const std::string role_;
  const Dialect dialect_;
  std::vector<MediaSource>& pictures_;
  std::string text_;
  bool after_picture_ = false;
};

std::string role_of(const Fields& fields, Dialect dialect) {
  const bool system = dialect != Dialect::kAnthropic;  // there, it stands elsewhere
  const char* expected = system ? "system, developer, user or assistant" : "user or assistant";
  const auto role = fields.string("role");
  if (!role) fields.reject("role", expected);
  if (system && *role == "developer") return "system";
  if (!(system && *role == "system") && *role != "user" && *role != "assistant")
    fields.reject("role", expected, "unsupported_value");
  return *role;
}

void add_all(const json& content, const std::string& param, Content& parts) {
  if (content.is_string()) return parts.add_text(content.get_ref<const std::string&>());
  for (size_t i = 0; i < content.size(); ++i) parts.add_part(content[i], fmt::format("{}[{}]", param, i));
}

std::string content_of(const Fields& fields, const std::string& role, Dialect dialect,
                       std::vector<MediaSource>& pictures) {
  if (const json* calls = fields.find("tool_calls"); calls != nullptr && !calls->empty())
    fields.reject("tool_calls", "nothing: tools are not supported", "unsupported_value");
  const json* content = fields.find("content");
  Content parts(role, dialect, pictures);
  if (const json* images = dialect == Dialect::kOllama ? fields.find("images") : nullptr) {
    if (!images->is_array()) fields.reject("images", "a list of pictures in base64");
    for (size_t i = 0; i < images->size(); ++i)
      parts.add_picture(parse_image_url((*images)[i], fmt::format("{}[{}]", fields.name("images"), i)));
  }
  if (content == nullptr && role == "assistant") return "";
  if (content == nullptr || !(content->is_string() || content->is_array()))
    fields.reject("content", "a string or a list of parts");
  add_all(*content, fields.name("content"), parts);
  return parts.take();
}

void append(std::vector<Message>& messages, const std::string& role, std::string content) {
  if (!messages.empty() && messages.back().role == role) {
    messages.back().content += "\n" + content;
  } else {
    messages.push_back({role, std::move(content)});
  }
}

void add_message(const json& value, const std::string& param, Dialect dialect, ChatMessages& result) {
  const Fields message(value, param);
  if (dialect == Dialect::kResponses && message.string("type").value_or("message") != "message")
    message.reject("type", "message", "unsupported_value");
  const std::string role = role_of(message, dialect);
  std::string content = content_of(message, role, dialect, result.pictures);
  std::vector<Message>& messages = result.messages;
  if (role == "system" && !messages.empty() && messages.back().role != "system")
    throw ApiError(400, param + ": system and developer messages are possible at the beginning only",
                   "unsupported_value", param + ".role");
  append(messages, role, std::move(content));
}

}  // namespace

MediaSource parse_image_url(const json& value, const std::string& param) {
  if (value.is_string()) return {value.get<std::string>(), param};
  const Fields fields(value, param);
  const auto url = fields.string("url");
  if (!url) fields.reject("url", "a string");
  return {*url, param, parse_detail(fields)};
}

std::string parse_content(const json& value, const std::string& param, std::vector<MediaSource>& pictures) {
  if (!value.is_string() && !value.is_array())
    throw ApiError(400, fmt::format("{} is {}, expected a string or a list of parts", param, describe_json(value)), "",
                   param);
  Content parts("user", Dialect::kChat, pictures);
  add_all(value, param, parts);
  return parts.take();
}

ChatMessages parse_messages(const json& body, const std::string& key, Dialect dialect, const std::string& system) {
  const Fields fields(body);
  const json* list = fields.find(key);
  if (list == nullptr || !list->is_array() || list->empty()) fields.reject(key, "a list of messages");
  ChatMessages result;
  if (!system.empty()) result.messages.push_back({"system", system});
  for (size_t i = 0; i < list->size(); ++i) add_message((*list)[i], fmt::format("{}[{}]", key, i), dialect, result);
  const auto asks = [](const Message& message) { return message.role == "user"; };
  if (std::none_of(result.messages.begin(), result.messages.end(), asks))
    fields.reject(key, "at least one message of the user");
  if (result.messages.back().role != "assistant") result.messages.push_back({"assistant", ""});
  return result;
}

ChatMessages one_question(const std::string& text, std::vector<MediaSource> pictures, const std::string& system) {
  ChatMessages result;
  if (!system.empty()) result.messages.push_back({"system", system});
  Content content("user", Dialect::kChat, result.pictures);
  for (MediaSource& picture : pictures) content.add_picture(std::move(picture));
  content.add_text(text);
  result.messages.push_back({"user", content.take()});
  result.messages.push_back({"assistant", ""});
  return result;
}

std::string parse_text(const json& value, const std::string& param) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array())
    throw ApiError(400,
                   fmt::format("{} is {}, expected a string or a list of text blocks", param, describe_json(value)), "",
                   param);
  std::string text;
  for (size_t i = 0; i < value.size(); ++i) {
    const Fields block(value[i], fmt::format("{}[{}]", param, i));
    const std::string type = block.string("type").value_or("");
    if (type != "text" && type != "input_text") block.reject("type", "text", "unsupported_value");
    const auto one = block.string("text");
    if (!one) block.reject("text", "a string");
    if (!text.empty()) text += '\n';
    text += *one;
  }
  return text;
}

}  // namespace vl2::server

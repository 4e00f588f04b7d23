#include "apps/cli/conversation_file.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/cli/terminal.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"

namespace vl2::cli {
namespace {

using nlohmann::json;

constexpr size_t kMostBytes = size_t{64} << 20;
constexpr int64_t kLongestSide = 1'000'000;

[[noreturn]] void reject(const std::string& where, const std::string& what, const json& value,
                         std::string_view expected) {
  fail(ErrorCode::kCorrupt, "{}: {} is {}, expected {}", where, what, describe_json(value), expected);
}

const json& member(const json& object, const char* key, const std::string& where, const std::string& what) {
  const auto found = object.find(key);
  if (found == object.end()) fail(ErrorCode::kCorrupt, "{}: {} has no \"{}\"", where, what, key);
  return *found;
}

std::string text_member(const json& object, const char* key, const std::string& where, const std::string& what) {
  const json& value = member(object, key, where, what);
  if (!value.is_string()) reject(where, fmt::format("{}.{}", what, key), value, "a string");
  return value.get<std::string>();
}

std::vector<ImageSize> parse_sizes(const json& list, const std::string& where) {
  if (!list.is_array()) reject(where, "image_sizes", list, "a list of [width, height]");
  std::vector<ImageSize> sizes;
  for (const json& size : list) {
    const auto is_side = [](const json& n) { return n.is_number_integer() && n >= 1 && n <= kLongestSide; };
    if (!size.is_array() || size.size() != 2 || !is_side(size[0]) || !is_side(size[1]))
      reject(where, fmt::format("image_sizes[{}]", sizes.size()), size,
             fmt::format("[width, height], 1 to {} pixels each", kLongestSide));
    sizes.push_back({size[0].get<int64_t>(), size[1].get<int64_t>()});
  }
  return sizes;
}

void parse_message(const json& message, const std::string& where, const std::string& what, ConversationFile& result) {
  if (!message.is_object()) reject(where, what, message, "an object with \"role\" and \"content\"");
  result.messages.push_back({text_member(message, "role", where, what), text_member(message, "content", where, what)});
  const auto images = message.find("images");
  if (images == message.end()) return;
  if (!images->is_array()) reject(where, what + ".images", *images, "a list of paths");
  for (const json& path : *images) {
    if (!path.is_string()) reject(where, what + ".images", path, "a path");
    result.pictures.push_back(path.get<std::string>());
  }
}

// Beside the conversation's file, if they are there.
void find_pictures(ConversationFile& conversation, const std::string& path) {
  for (std::string& picture : conversation.pictures) {
    std::error_code ignored;
    const std::filesystem::path beside = std::filesystem::path(path).parent_path() / picture;
    if (std::filesystem::exists(beside, ignored)) picture = beside.string();
  }
}

}  // namespace

ConversationFile parse_conversation(std::string_view text, const std::string& where) {
  const json root = parse_json(text, where, {.max_bytes = kMostBytes});
  if (!root.is_object()) reject(where, "the conversation", root, "an object with \"messages\"");
  const json& messages = member(root, "messages", where, "the conversation");
  if (!messages.is_array()) reject(where, "messages", messages, "a list");
  ConversationFile result;
  for (size_t i = 0; i < messages.size(); ++i)
    parse_message(messages[i], where, fmt::format("messages[{}]", i), result);
  if (const auto sizes = root.find("image_sizes"); sizes != root.end()) result.sizes = parse_sizes(*sizes, where);
  if (result.sizes && !result.pictures.empty())
    fail(ErrorCode::kCorrupt, "{}: has both image_sizes and images; give the pictures or their sizes", where);
  return result;
}

ConversationFile read_conversation(const std::string& path) {
  if (path == "-") return parse_conversation(read_stdin(kMostBytes), "the conversation on stdin");
  ConversationFile result = parse_conversation(read_file(path, kMostBytes), path);
  find_pictures(result, path);
  return result;
}

std::vector<ConversationFile> read_conversations(const std::string& path) {
  const std::string text = read_file(path, kMostBytes);
  std::vector<ConversationFile> result;
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    result.push_back(parse_conversation(line, fmt::format("{}: line {}", path, number)));
    find_pictures(result.back(), path);
  }
  if (result.empty()) fail(ErrorCode::kCorrupt, "{}: has no conversation, expected one a line", path);
  return result;
}

MultimodalPrompt build_prompt(const ConversationFile& conversation, const Processor& processor,
                              const PromptOptions& options, const PictureOptions& pictures) {
  if (conversation.sizes) return processor.build_from_sizes(conversation.messages, *conversation.sizes, options);
  std::vector<Image> images;
  for (const std::string& path : conversation.pictures) images.push_back(read_picture(path, pictures));
  return processor.build(conversation.messages, images, options);
}

size_t num_spare_pictures(const ConversationFile& conversation, const MultimodalPrompt& prompt) {
  return (conversation.sizes ? conversation.sizes->size() : conversation.pictures.size()) - prompt.images.size();
}

}  // namespace vl2::cli

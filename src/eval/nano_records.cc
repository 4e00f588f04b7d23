// Reading records and answers.
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "eval/nano_skills.h"

namespace vl2::eval {
namespace {

using nlohmann::json;

constexpr size_t kMaxFileBytes = size_t{2} << 30;
constexpr size_t kMaxListed = 10'000;  // messages, pictures or boxes of one record

// Calls take(line, where) for every line that is not blank.
template <typename Take>
void for_each_line(std::string_view text, const std::string& where, const Take& take) {
  size_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    take(line, fmt::format("{}:{}", where, number));
  }
}

const json& array_of(const JsonObject& object, const std::string& key) {
  const json* value = object.find(key);
  if (value == nullptr || !value->is_array() || value->size() > kMaxListed)
    object.reject(key, "a list of at most 10000");
  return *value;
}

std::string needed(const JsonObject& object, const std::string& key) {
  const json* value = object.find(key);
  if (value == nullptr || !value->is_string()) object.reject(key, "a string");
  return object.string(key, "");
}

void read_messages(const JsonObject& object, NanoRecord& record) {
  size_t answers = 0;
  const json& messages = array_of(object, "messages");
  for (size_t i = 0; i < messages.size(); ++i) {
    const JsonObject message(messages[i], object.where(), fmt::format("messages[{}]", i));
    record.messages.push_back({needed(message, "role"), needed(message, "content")});
    answers += record.messages.back().role == "assistant" ? 1 : 0;
  }
  if (answers != 1 || record.messages.back().role != "assistant")
    fail(ErrorCode::kCorrupt, "{}: {} answers among the messages, expected one, the last; {}", object.where(), answers,
         "make the set with --questions one");
  record.expected = std::move(record.messages.back().content);
  record.messages.pop_back();
}

void read_expect(const JsonObject& object, NanoRecord& record) {
  const json* value = object.find("expect");
  if (value == nullptr) return;
  const JsonObject expect(*value, object.where(), "expect");
  if (expect.has("value")) {
    record.value = expect.number("value", 0, -1e12, 1e12);
    record.tolerance = expect.number("tolerance", 0, 0, 1);
  }
  if (!expect.has("boxes")) return;
  for (const json& box : array_of(expect, "boxes")) {
    const bool four = box.is_array() && box.size() == 4 && std::all_of(box.begin(), box.end(), [](const json& n) {
                        return n.is_number_integer() && n >= 0 && n <= 999;
                      });
    if (!four || box[0] > box[2] || box[1] > box[3]) expect.reject("boxes", "lists of x1, y1, x2, y2 from 0 to 999");
    record.boxes.push_back({box[0].get<int>(), box[1].get<int>(), box[2].get<int>(), box[3].get<int>()});
  }
}

}  // namespace

std::vector<NanoRecord> parse_nano_records(std::string_view jsonl, const std::filesystem::path& file) {
  std::vector<NanoRecord> records;
  std::unordered_set<std::string> ids;
  for_each_line(jsonl, file.string(), [&](std::string_view line, const std::string& where) {
    const json value = parse_json(line, where);
    const JsonObject object(value, where);
    NanoRecord record;
    record.id = needed(object, "id");
    record.task = needed(object, "task");
    if (!ids.insert(record.id).second) object.reject("id", "an id that no other record has");
    read_messages(object, record);
    if (object.has("images"))
      for (const json& image : array_of(object, "images")) {
        if (!image.is_string()) object.reject("images", "paths of pictures");
        record.images.push_back(file.parent_path() / image.get<std::string>());
      }
    read_expect(object, record);
    records.push_back(std::move(record));
  });
  if (records.empty()) fail(ErrorCode::kCorrupt, "{}: has no records; expected one JSON object a line", file.string());
  return records;
}

std::vector<NanoRecord> read_nano_records(const std::filesystem::path& file) {
  return parse_nano_records(read_file(file, kMaxFileBytes), file);
}

std::vector<NanoAnswer> parse_nano_answers(std::string_view jsonl, const std::string& where) {
  std::vector<NanoAnswer> answers;
  for_each_line(jsonl, where, [&](std::string_view line, const std::string& line_name) {
    const json value = parse_json(line, line_name);
    const JsonObject object(value, line_name);
    NanoAnswer answer{needed(object, "id"), needed(object, "answer"), std::nullopt};
    const json* margin = object.find("margin");
    if (margin != nullptr && !margin->is_null()) answer.margin = object.number("margin", 0, -1e9, 1e9);
    answers.push_back(std::move(answer));
  });
  return answers;
}

std::vector<NanoAnswer> read_nano_answers(const std::filesystem::path& file) {
  return parse_nano_answers(read_file(file, kMaxFileBytes), file.string());
}

std::string format_nano_answers(std::span<const NanoAnswer> answers) {
  std::string text;
  for (const NanoAnswer& answer : answers) {
    nlohmann::ordered_json line = {{"id", answer.id}, {"answer", answer.text}};
    if (answer.margin) line["margin"] = *answer.margin;
    text += line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  }
  return text;
}

}  // namespace vl2::eval

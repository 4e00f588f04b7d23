#include "core/dataset/record_parser.h"

#include <simdjson.h>

#include <array>
#include <cmath>
#include <map>
#include <utility>

#include "core/base/error.h"

namespace vl2 {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxTurns = 4096, kMaxImages = 1024, kMaxObjects = 65536;
constexpr std::string_view kPlaceholder = "<image>";

// What is wrong with a record is thrown as an Error without a place and caught by parse_record().
template <typename... Args>
[[noreturn]] void reject(fmt::format_string<Args...> format, Args&&... args) {
  fail(ErrorCode::kCorrupt, format, std::forward<Args>(args)...);
}

std::string shown(std::string_view text) {
  constexpr size_t kShown = 60;
  size_t end = std::min(text.size(), kShown);
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return fmt::format("\"{}{}\"", text.substr(0, end), end < text.size() ? "..." : "");
}

const char* kind(const dom::element& value) {
  switch (value.type()) {
    case dom::element_type::ARRAY:
      return "a list";
    case dom::element_type::OBJECT:
      return "an object";
    case dom::element_type::STRING:
      return "a string";
    case dom::element_type::BOOL:
      return "true or false";
    case dom::element_type::NULL_VALUE:
      return "null";
    default:
      return "a number";
  }
}

// An object's keys, each once: of two values for a key, readers differ in which one counts. null is as good as absent.
class Fields {
 public:
  Fields(const dom::element& value, std::string path) : path_(std::move(path)) {
    dom::object object;
    if (value.get_object().get(object) != simdjson::SUCCESS)
      reject("{} is {}, expected an object", path_.empty() ? "the record" : path_, kind(value));
    for (const dom::key_value_pair field : object) {
      if (!values_.emplace(field.key, field.value).second)
        reject("the key {} appears twice, expected once", shown(field.key));
    }
  }

  const dom::element* find(std::string_view key) const {
    const auto it = values_.find(key);
    return it == values_.end() || it->second.is_null() ? nullptr : &it->second;
  }
  bool has(std::string_view key) const { return find(key) != nullptr; }

  std::optional<std::string_view> optional_string(std::string_view key) const {
    const dom::element* value = find(key);
    if (value == nullptr) return std::nullopt;
    std::string_view text;
    if (value->get_string().get(text) != simdjson::SUCCESS)
      reject("{} is {}, expected a string", name(key), kind(*value));
    return text;
  }

  std::string string(std::string_view key) const {
    const auto text = optional_string(key);
    if (!text) reject("{} is missing, expected a string", name(key));
    return std::string(*text);
  }

  std::optional<dom::array> optional_list(std::string_view key, size_t limit) const {
    const dom::element* value = find(key);
    if (value == nullptr) return std::nullopt;
    dom::array list;
    if (value->get_array().get(list) != simdjson::SUCCESS) reject("{} is {}, expected a list", name(key), kind(*value));
    if (list.size() > limit) reject("{} has more than {} entries; split the record", name(key), limit);
    return list;
  }

  std::string name(std::string_view key) const {
    return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
  }

 private:
  std::string path_;
  std::map<std::string_view, dom::element> values_;
};

std::string indexed(std::string_view name, size_t index) { return fmt::format("{}[{}]", name, index); }

double number_of(const dom::element& value, const std::string& name) {
  double number = 0;
  if (value.get_double().get(number) != simdjson::SUCCESS || !std::isfinite(number))
    reject("{} is {}, expected a number", name, kind(value));
  return number;
}

std::string role_of(std::string_view name, const std::string& where) {
  if (name == "user" || name == "human") return "user";
  if (name == "assistant" || name == "gpt" || name == "model" || name == "chatgpt") return "assistant";
  if (name == "system" || name == "developer") return "system";
  reject("{} is {}, expected user, assistant or system (or ShareGPT's human, gpt)", where, shown(name));
}

class RecordBuilder {
 public:
  RecordBuilder(const Fields& fields, const std::filesystem::path& image_root) : fields_(fields), root_(image_root) {}

  TrainingRecord build(RecordFormat format) {
    read_common();
    switch (format) {
      case RecordFormat::kMessages:
        read_messages();
        break;
      case RecordFormat::kShareGpt:
        read_conversations();
        break;
      case RecordFormat::kInstruction:
        read_instruction();
        break;
      case RecordFormat::kText:
        record_.raw_text = true;
        record_.turns.push_back({"", fields_.string("text")});
        break;
    }
    if (record_.turns.empty()) reject("the conversation is empty, expected at least a question and an answer");
    for (size_t i = 1; i < record_.turns.size(); ++i)
      if (record_.turns[i].role == "system") reject("turn {} is a system message; only the first turn can be", i + 1);
    return std::move(record_);
  }

 private:
  void read_common() {
    for (const char* key : {"videos", "video", "audios", "audio", "tools"}) {
      const dom::element* value = fields_.find(key);
      dom::array list;
      if (value != nullptr && (value->get_array().get(list) != simdjson::SUCCESS || list.size() > 0))
        reject("it has {}, which this model cannot learn from", key);
    }
    if (const dom::element* id = fields_.find("id")) {
      std::string_view text;
      if (id->get_string().get(text) == simdjson::SUCCESS)
        record_.id = text;
      else if (id->is_number())
        record_.id = simdjson::to_string(*id);
      else
        reject("id is {}, expected a string or a number", kind(*id));
    }
    if (const auto task = fields_.optional_string("task")) record_.task = *task;
    if (const auto source = fields_.optional_string("source")) record_.source = *source;
    if (fields_.has("image") && fields_.has("images")) reject("it has both image and images, expected one of them");
    for (const char* key : {"image", "images"}) read_images(key);
    if (const dom::element* objects = fields_.find("objects")) read_objects(*objects);
    if (const auto regions = fields_.optional_list("regions", kMaxObjects))
      for (const dom::element region : *regions) record_.regions.push_back(read_region(region));
    if (fields_.has("system") && !fields_.has("text")) {
      std::string system = fields_.string("system");
      if (!system.empty()) record_.turns.push_back({"system", std::move(system)});
    }
  }

  void read_images(const char* key) {
    const dom::element* value = fields_.find(key);
    if (value == nullptr) return;
    if (value->is_string()) return add_image(*value, key);
    const auto list = fields_.optional_list(key, kMaxImages);
    size_t i = 0;
    for (const dom::element image : *list) add_image(image, indexed(key, i++));
  }

  // A path or data: URI, or an object that holds one.
  void add_image(const dom::element& value, const std::string& name) {
    std::string_view text;
    if (value.is_object()) {
      const Fields fields(value, name);
      for (const char* key : {"path", "url"})
        if (const auto found = fields.optional_string(key)) text = *found;
      if (text.empty()) reject("{} has neither a path nor a url", name);
    } else if (value.get_string().get(text) != simdjson::SUCCESS) {
      reject("{} is {}, expected a path or a data: URI", name, kind(value));
    }
    if (record_.images.size() >= kMaxImages) reject("it has more than {} pictures; split the record", kMaxImages);
    record_.images.push_back(resolve(text, name));
  }

  std::string resolve(std::string_view text, const std::string& name) const {
    constexpr std::string_view kFile = "file://";
    if (text.starts_with("data:")) return std::string(text);
    if (text.starts_with(kFile)) text.remove_prefix(kFile.size());
    if (text.empty() || text.find('\0') != text.npos) reject("{} is {}, expected a path", name, shown(text));
    if (text.substr(0, 16).find("://") != text.npos)
      reject("{} is {}: pictures are not fetched; download it and give its path", name, shown(text));
    return (root_ / text).string();
  }

  void read_objects(const dom::element& value) {
    const Fields fields(value, "objects");
    RecordObjects objects;
    if (const auto unit = fields.optional_string("bbox_type")) {
      if (*unit == "norm1")
        objects.unit = RecordObjects::Unit::kFraction;
      else if (*unit != "real")
        reject("objects.bbox_type is {}, expected real or norm1", shown(*unit));
    }
    if (const auto list = fields.optional_list("ref", kMaxObjects))
      for (const dom::element label : *list) {
        std::string_view text;
        if (label.get_string().get(text) != simdjson::SUCCESS)
          reject("{} is {}, expected a string", indexed("objects.ref", objects.labels.size()), kind(label));
        objects.labels.emplace_back(text);
      }
    if (const auto list = fields.optional_list("bbox", kMaxObjects))
      for (const dom::element box : *list) objects.boxes.push_back(read_box(box, objects.boxes.size()));
    if (const auto list = fields.optional_list("image_id", kMaxObjects)) read_image_ids(*list, objects);
    if (!objects.labels.empty() || !objects.boxes.empty()) record_.objects = std::move(objects);
  }

  // [picture, x1, y1, x2, y2, label] or with a second label, for the tiles.
  PictureRegion read_region(const dom::element& value) const {
    const std::string name = indexed("regions", record_.regions.size());
    dom::array list;
    if (value.get_array().get(list) != simdjson::SUCCESS || list.size() < 6 || list.size() > 7)
      reject("{} is {}, expected a list: picture, x1, y1, x2, y2, label, and perhaps a label for the tiles", name,
             kind(value));
    PictureRegion region;
    std::array<double, 5> n{};
    for (size_t i = 0; i < n.size(); ++i) n[i] = number_of(list.at(i), name);
    const auto images = static_cast<double>(record_.images.size());
    if (n[0] < 0 || n[0] >= images || n[0] != std::floor(n[0]))
      reject("{} is of picture {}, expected 0 to {}", name, n[0], images - 1);
    region = {static_cast<int64_t>(n[0]), n[1], n[2], n[3], n[4], "", ""};
    for (size_t i = n.size(); i < list.size(); ++i) {
      std::string_view label;
      if (list.at(i).get_string().get(label) != simdjson::SUCCESS || label.empty())
        reject("{} has a label that is {}, expected a string", name, kind(list.at(i)));
      region.local_label = label;
      if (i == n.size()) region.global_label = label;
    }
    return region;
  }

  static RecordObjects::Box read_box(const dom::element& value, size_t index) {
    const std::string name = indexed("objects.bbox", index);
    dom::array list;
    if (value.get_array().get(list) != simdjson::SUCCESS || list.size() != 4)
      reject("{} is {}, expected a list of four numbers: x1, y1, x2, y2", name, kind(value));
    std::array<double, 4> n{};
    size_t i = 0;
    for (const dom::element number : list) n[i++] = number_of(number, name);
    return {n[0], n[1], n[2], n[3]};
  }

  static void read_image_ids(const dom::array& list, RecordObjects& objects) {
    if (list.size() != objects.boxes.size())
      reject("objects.image_id has {} entries for {} boxes", list.size(), objects.boxes.size());
    size_t i = 0;
    for (const dom::element id : list) {
      int64_t index = 0;
      if (id.get_int64().get(index) != simdjson::SUCCESS || index < 0 || index >= static_cast<int64_t>(kMaxImages))
        reject("{} is {}, expected the number of a picture, from 0", indexed("objects.image_id", i), kind(id));
      objects.boxes[i++].image = index;
    }
  }

  void read_messages() {
    const auto list = fields_.optional_list("messages", kMaxTurns);
    if (!list) reject("messages is missing, expected a list");
    size_t i = 0;
    for (const dom::element message : *list) {
      const std::string name = indexed("messages", i++);
      const Fields fields(message, name);
      TrainingTurn turn{role_of(fields.string("role"), fields.name("role")), content_of(fields, "content")};
      turn.loss = loss_of(fields);
      add_turn(std::move(turn));
    }
  }

  // A dialogue of LLaVA or ShareGPT; some files write messages under its key.
  void read_conversations() {
    const auto list = fields_.optional_list("conversations", kMaxTurns);
    if (!list) reject("conversations is missing, expected a list");
    size_t i = 0;
    for (const dom::element message : *list) {
      const std::string name = indexed("conversations", i++);
      const Fields fields(message, name);
      const char* role = fields.has("from") ? "from" : fields.has("role") ? "role" : "from";
      const char* content = fields.has("value") ? "value" : fields.has("content") ? "content" : "value";
      TrainingTurn turn{role_of(fields.string(role), fields.name(role)), content_of(fields, content)};
      turn.loss = loss_of(fields);
      add_turn(std::move(turn));
    }
  }

  void read_instruction() {
    const bool alpaca = fields_.has("instruction");
    if (const auto history = fields_.optional_list("history", kMaxTurns)) {
      size_t i = 0;
      for (const dom::element pair : *history) {
        const std::string name = indexed("history", i++);
        dom::array two;
        std::string_view question, answer;
        if (pair.get_array().get(two) != simdjson::SUCCESS || two.size() != 2 ||
            two.at(0).get_string().get(question) != simdjson::SUCCESS ||
            two.at(1).get_string().get(answer) != simdjson::SUCCESS)
          reject("{} is {}, expected a list of a question and its answer", name, kind(pair));
        record_.turns.push_back({"user", std::string(question)});
        record_.turns.push_back({"assistant", std::string(answer)});
      }
    }
    std::string question = fields_.string(alpaca ? "instruction" : "query");
    if (const auto input = alpaca ? fields_.optional_string("input") : std::nullopt; input && !input->empty())
      question.append("\n").append(*input);
    record_.turns.push_back({"user", std::move(question)});
    record_.turns.push_back({"assistant", fields_.string(alpaca ? "output" : "response")});
  }

  void add_turn(TrainingTurn turn) {
    if (turn.role == "system" && !record_.turns.empty() && record_.turns.front().role == "system")
      reject("it has two system messages, expected one at most");
    record_.turns.push_back(std::move(turn));
  }

  static std::optional<bool> loss_of(const Fields& fields) {
    for (const char* key : {"loss", "weight"}) {
      const dom::element* value = fields.find(key);
      if (value == nullptr) continue;
      bool flag = false;
      int64_t number = 0;
      if (value->get_bool().get(flag) == simdjson::SUCCESS) return flag;
      if (value->get_int64().get(number) == simdjson::SUCCESS && (number == 0 || number == 1)) return number == 1;
      reject("{} is {}, expected true or false", fields.name(key), kind(*value));
    }
    return std::nullopt;
  }

  // A string, or parts as the chat APIs have them; a picture of a part stands on a line of its own.
  std::string content_of(const Fields& fields, const char* key) {
    const dom::element* value = fields.find(key);
    if (value == nullptr || !value->is_array()) return fields.string(key);
    std::string content;
    size_t i = 0;
    const auto parts = fields.optional_list(key, kMaxTurns);
    for (const dom::element part : *parts) {
      const std::string name = indexed(fields.name(key), i++);
      const Fields of(part, name);
      const std::string type = of.string("type");
      if (type == "text") {
        content += of.string("text");
      } else if (type == "image_url" || type == "image") {
        for (const char* where : {"image_url", "image", "url", "path"})
          if (const dom::element* image = of.find(where)) {
            add_image(*image, of.name(where));
            break;
          }
        content.append(kPlaceholder).append("\n");
      } else {
        reject("{} is {}, expected text, image_url or image", of.name("type"), shown(type));
      }
    }
    return content;
  }

  const Fields& fields_;
  const std::filesystem::path& root_;
  TrainingRecord record_;
};

RecordFormat detect(const Fields& fields) {
  if (fields.has("messages")) return RecordFormat::kMessages;
  if (fields.has("conversations")) return RecordFormat::kShareGpt;
  if (fields.has("instruction") || fields.has("query")) return RecordFormat::kInstruction;
  if (fields.has("text")) return RecordFormat::kText;
  reject("no record we know: expected one of the keys messages, conversations, instruction, query, text");
}

constexpr std::array<std::string_view, 4> kNames = {"messages", "sharegpt", "instruction", "text"};

}  // namespace

std::optional<RecordFormat> record_format(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return static_cast<RecordFormat>(i);
  return std::nullopt;
}

std::string_view format_name(RecordFormat format) { return kNames.at(static_cast<size_t>(format)); }

std::variant<TrainingRecord, BadRecord> parse_record(std::string_view json, const std::string& where,
                                                     const std::filesystem::path& image_root,
                                                     std::optional<RecordFormat> format) {
  try {
    dom::parser parser;
    dom::element root;
    simdjson::error_code error = parser.allocate(json.size() + 1, kMaxDepth);
    if (error == simdjson::SUCCESS) error = parser.parse(json.data(), json.size()).get(root);
    if (error == simdjson::DEPTH_ERROR) reject("JSON nested more than {} levels deep", kMaxDepth);
    if (error != simdjson::SUCCESS) reject("not valid JSON: {}", simdjson::error_message(error));
    const Fields fields(root, "");
    TrainingRecord record = RecordBuilder(fields, image_root).build(format ? *format : detect(fields));
    record.where = where;
    return record;
  } catch (const Error& bad) {
    if (bad.code() != ErrorCode::kCorrupt) throw;
    return BadRecord{where, bad.what()};
  }
}

}  // namespace vl2

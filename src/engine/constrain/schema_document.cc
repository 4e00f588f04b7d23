#include "engine/constrain/schema_document.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/base/json.h"

namespace vl2 {
namespace {

using nlohmann::ordered_json;

constexpr std::array<std::string_view, 8> kAnnotations = {"$schema",  "title",    "description", "default",
                                                          "$comment", "examples", "$defs",       "definitions"};
constexpr int kMostReferences = 64;  // one leading to the next

void check_sizes(const nlohmann::json& root) {
  std::vector<const nlohmann::json*> open = {&root};
  while (!open.empty()) {
    const nlohmann::json& value = *open.back();
    open.pop_back();
    if (value.is_object() && value.size() > kMostSchemaKeys)
      fail(ErrorCode::kInvalidArgument, "the JSON schema has an object of {} keys, at most {} are possible",
           value.size(), kMostSchemaKeys);
    if (value.is_structured())
      for (const auto& inner : value) open.push_back(&inner);
  }
}

}  // namespace

bool is_annotation(std::string_view keyword) {
  return std::find(kAnnotations.begin(), kAnnotations.end(), keyword) != kAnnotations.end();
}

void reject_schema(const std::string& path, const std::string& why) {
  fail(ErrorCode::kInvalidArgument, "the JSON schema: {} {}", path, why);
}

SchemaDocument::SchemaDocument(std::string_view text) {
  try {
    // Keys in sorted order first, where many keys cost no time; then once more in the order of the text.
    check_sizes(parse_json(text, "the JSON schema", {kMostSchemaBytes, kMostSchemaDepth}));
  } catch (const Error& error) {
    throw Error(ErrorCode::kInvalidArgument, error.what());
  }
  root_ = ordered_json::parse(text.begin(), text.end());
}

SchemaPart SchemaDocument::resolve(const SchemaPart& from) const {
  const ordered_json& reference = from.schema->at("$ref");
  const std::string path = from.path + "/$ref";
  if (!reference.is_string() || !reference.get_ref<const std::string&>().starts_with('#'))
    reject_schema(path, "is no reference within the schema, expected \"#\" or \"#/...\"");
  const auto& text = reference.get_ref<const std::string&>();
  try {
    return {&root_.at(ordered_json::json_pointer(text.substr(1))), text};
  } catch (const ordered_json::exception&) {
    reject_schema(path, "names " + describe_json(nlohmann::json(text)) + ", which is not there");
  }
}

SchemaPart SchemaDocument::target(SchemaPart part) const {
  for (int i = 0; i < kMostReferences && part.schema->is_object() && part.schema->contains("$ref"); ++i) {
    const bool alone = std::all_of(part.schema->items().begin(), part.schema->items().end(),
                                   [](const auto& item) { return item.key() == "$ref" || is_annotation(item.key()); });
    if (!alone) break;
    part = resolve(part);
  }
  return part;
}

}  // namespace vl2

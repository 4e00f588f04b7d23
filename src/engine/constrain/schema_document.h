// A JSON schema as it came: parsed within limits, its references looked up, its keywords gathered.
//
// A schema in force at some place is often several at once (allOf, $ref with siblings): a Conjunction of parts.
// flatten() merges the parts into one FlatSchema. Everything points into the document, which must outlive it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vl2 {

// Larger schemas are refused.
inline constexpr size_t kMostSchemaBytes = size_t{256} * 1024;
inline constexpr size_t kMostSchemaKeys = 2000;  // of one object
inline constexpr int kMostSchemaDepth = 100;     // of the text, brackets within brackets

struct SchemaPart {
  const nlohmann::ordered_json* schema = nullptr;
  std::string path;             // "#/properties/a", for errors
  bool expanded = false;        // its $ref and allOf stand beside it already
  bool without_any_of = false;  // one of its alternatives stands beside it already
};
using Conjunction = std::vector<SchemaPart>;

enum SchemaType : unsigned {
  kObjectType = 1,
  kArrayType = 2,
  kStringType = 4,
  kNumberType = 8,
  kIntegerType = 16,
  kBooleanType = 32,
  kNullType = 64,
  kAllTypes = 127 - 16,  // integers are numbers
};

struct FlatSchema {
  struct Property {
    std::string name;
    Conjunction schema;
    bool required = false;
    bool forbidden = false;  // some part allows no such key
  };
  struct Bound {
    const nlohmann::ordered_json* value;
    std::string path;
    bool lower, exclusive;
  };
  struct Text {
    std::string text, path;
  };

  Conjunction parts;  // all of them, expanded
  unsigned types = kAllTypes;
  bool impossible = false;

  std::vector<Property> properties;
  bool more_properties = false;
  Conjunction additional;  // what further values must be

  std::vector<Conjunction> prefix;
  Conjunction items;
  bool more_items = true;
  int64_t min_items = 0;
  std::optional<int64_t> max_items;

  int64_t min_length = 0;
  std::optional<int64_t> max_length;
  std::optional<Text> pattern, format;
  std::vector<Bound> bounds;

  std::optional<std::vector<nlohmann::ordered_json>> values;  // of enum and const
  std::string values_path;
  std::string restricted;  // the path of a keyword about contents, if there is any

  std::optional<size_t> any_of;  // the part that has it
};

class SchemaDocument {
 public:
  // kInvalidArgument: no JSON, or beyond the limits.
  explicit SchemaDocument(std::string_view text);

  const nlohmann::ordered_json& root() const { return root_; }
  // The part a "$ref" names. kInvalidArgument: not within this document.
  SchemaPart resolve(const SchemaPart& from) const;
  // Through references that have nothing beside them.
  SchemaPart target(SchemaPart part) const;

  // kInvalidArgument: keywords that are not understood, values of the wrong kind, references in a circle.
  FlatSchema flatten(const Conjunction& parts) const;

 private:
  nlohmann::ordered_json root_;
};

// Keywords that say nothing about what is valid.
bool is_annotation(std::string_view keyword);

// kInvalidArgument: "the JSON schema: PATH WHY"
[[noreturn]] void reject_schema(const std::string& path, const std::string& why);

}  // namespace vl2

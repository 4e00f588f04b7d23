#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/base/json.h"
#include "engine/constrain/schema_document.h"

namespace vl2 {
namespace {

using nlohmann::ordered_json;

constexpr size_t kMostParts = 1000;
constexpr size_t kMostValues = 5000;  // of an enum

std::string shown(const ordered_json& value) { return describe_json(nlohmann::json(value)); }

// The text of a key within a path, as JSON pointers spell it.
std::string escaped(std::string_view key) {
  std::string result;
  for (const char c : key) result += c == '~' ? std::string("~0") : c == '/' ? std::string("~1") : std::string(1, c);
  return result.size() <= 60 ? result : result.substr(0, 57) + "...";
}

unsigned type_named(const ordered_json& name, const std::string& path) {
  static const std::vector<std::pair<std::string, unsigned>> kNames = {
      {"object", kObjectType},   {"array", kArrayType},     {"string", kStringType}, {"number", kNumberType},
      {"integer", kIntegerType}, {"boolean", kBooleanType}, {"null", kNullType}};
  if (name.is_string())
    for (const auto& [known, type] : kNames)
      if (known == name.get_ref<const std::string&>()) return type;
  reject_schema(path, "is " + shown(name) + ", expected object, array, string, number, integer, boolean or null");
}

// Integers are numbers: what both sides allow.
unsigned common_types(unsigned a, unsigned b) {
  unsigned both = a & b;
  const auto integer_of = [](unsigned one, unsigned other) {
    return (one & kIntegerType) != 0 && (other & kNumberType) != 0;
  };
  if (integer_of(a, b) || integer_of(b, a)) both |= kIntegerType;
  return (both & kNumberType) != 0 ? both & ~unsigned{kIntegerType} : both;
}

[[noreturn]] void reject_circle(const std::string& path) {
  reject_schema(path, "refers to itself without anything in between; no text can follow that");
}

class Flattener {
 public:
  explicit Flattener(const SchemaDocument& document) : document_(document) {}

  FlatSchema flatten(const Conjunction& parts) {
    for (const SchemaPart& part : parts) expand(part);
    for (size_t i = 0; i < flat_.parts.size(); ++i) keywords(i);
    merge_properties();
    merge_items();
    if (!typed_ && implied_ != 0) flat_.types = common_types(flat_.types, implied_);
    return std::move(flat_);
  }

 private:
  void expand(const SchemaPart& part) {
    if (part.schema->is_boolean()) {
      flat_.impossible = flat_.impossible || !part.schema->get<bool>();
      return;
    }
    if (!part.schema->is_object()) reject_schema(part.path, "is " + shown(*part.schema) + ", expected a schema");
    if (std::find(path_.begin(), path_.end(), part.schema) != path_.end()) reject_circle(part.path);
    const auto [seen, is_new] = seen_.try_emplace(part.schema, part.without_any_of);
    if (!is_new && seen->second && !part.without_any_of) reject_circle(part.path);  // an alternative of itself
    if (!is_new) return;
    if (flat_.parts.size() >= kMostParts)
      reject_schema(part.path, fmt::format("is merged from more than {} schemas, which is too many", kMostParts));
    flat_.parts.push_back(part);
    flat_.parts.back().expanded = true;
    if (part.expanded) return;
    path_.push_back(part.schema);
    if (part.schema->contains("$ref")) expand(document_.resolve(part));
    if (const auto all = part.schema->find("allOf"); all != part.schema->end()) {
      if (!all->is_array()) reject_schema(part.path + "/allOf", "is " + shown(*all) + ", expected a list of schemas");
      for (size_t i = 0; i < all->size(); ++i) expand({&(*all)[i], fmt::format("{}/allOf/{}", part.path, i)});
    }
    path_.pop_back();
  }

  int64_t count(const ordered_json& value, const std::string& path) const {
    if (!value.is_number_integer() || value.get<double>() < 0 || value.get<double>() > 1e9)
      reject_schema(path, "is " + shown(value) + ", expected an integer from 0 to 1000000000");
    return value.get<int64_t>();
  }

  void keep_text(std::optional<FlatSchema::Text>& kept, const ordered_json& value, const std::string& path) const {
    if (!value.is_string()) reject_schema(path, "is " + shown(value) + ", expected a string");
    const auto& text = value.get_ref<const std::string&>();
    if (kept && kept->text != text)
      reject_schema(path, "and " + kept->path + " hold at once, which is not supported; merge them into one");
    kept = FlatSchema::Text{text, path};
  }

  void keep_values(std::vector<ordered_json> values, const std::string& path) {
    if (flat_.values)
      std::erase_if(values, [&](const ordered_json& v) {
        return std::find(flat_.values->begin(), flat_.values->end(), v) == flat_.values->end();
      });
    flat_.values = std::move(values);
    flat_.values_path = path;
  }

  // Says what the schema is about; without "type" that decides what is written.
  void about(unsigned type, const std::string& path) {
    implied_ |= type;
    flat_.restricted = path;
  }

  void keywords(size_t index) {
    const SchemaPart part = flat_.parts[index];
    for (const auto& [key, value] : part.schema->items()) {
      const std::string path = part.path + "/" + escaped(key);
      if (is_annotation(key) || key == "$ref" || key == "allOf") continue;
      if (key == "type") {
        unsigned types = 0;
        if (value.is_array()) {
          for (const ordered_json& name : value) types |= type_named(name, path);
        } else {
          types = type_named(value, path);
        }
        flat_.types = common_types(flat_.types, types);
        typed_ = true;
      } else if (key == "enum") {
        if (!value.is_array() || value.empty())
          reject_schema(path, "is " + shown(value) + ", expected a list of values");
        if (value.size() > kMostValues)
          reject_schema(path, fmt::format("lists {} values, at most {} are possible", value.size(), kMostValues));
        keep_values({value.begin(), value.end()}, path);
      } else if (key == "const") {
        keep_values({value}, path);
      } else if (key == "anyOf") {
        if (!value.is_array() || value.empty())
          reject_schema(path, "is " + shown(value) + ", expected a list of schemas");
        if (part.without_any_of) continue;
        if (flat_.any_of)
          reject_schema(path, "and " + flat_.parts[*flat_.any_of].path +
                                  "/anyOf hold at once, which is not supported; write the combinations as one anyOf");
        flat_.any_of = index;
      } else if (!contents(key, value, path)) {
        reject_schema(path, "is a keyword that is not supported");
      }
    }
  }

  // The keywords about one type.
  bool contents(const std::string& key, const ordered_json& value, const std::string& path) {
    if (key == "properties" || key == "required" || key == "additionalProperties") {
      about(kObjectType, path);
    } else if (key == "items" || key == "prefixItems") {
      about(kArrayType, path);
    } else if (key == "minItems") {
      about(kArrayType, path);
      flat_.min_items = std::max(flat_.min_items, count(value, path));
    } else if (key == "maxItems") {
      about(kArrayType, path);
      flat_.max_items = std::min(flat_.max_items.value_or(INT64_MAX), count(value, path));
    } else if (key == "minLength") {
      about(kStringType, path);
      flat_.min_length = std::max(flat_.min_length, count(value, path));
    } else if (key == "maxLength") {
      about(kStringType, path);
      flat_.max_length = std::min(flat_.max_length.value_or(INT64_MAX), count(value, path));
    } else if (key == "pattern") {
      about(kStringType, path);
      keep_text(flat_.pattern, value, path);
    } else if (key == "format") {
      about(kStringType, path);
      keep_text(flat_.format, value, path);
    } else if (key == "minimum" || key == "maximum" || key == "exclusiveMinimum" || key == "exclusiveMaximum") {
      about(kNumberType, path);
      if (!value.is_number())
        reject_schema(path, "is " + shown(value) + ", expected a number (true and false are of an older draft)");
      flat_.bounds.push_back({&value, path, key.ends_with("inimum"), key.starts_with("exclusive")});
    } else {
      return false;
    }
    return true;
  }

  FlatSchema::Property& property(const std::string& name) {
    const auto [at, is_new] = index_.try_emplace(name, flat_.properties.size());
    if (is_new) flat_.properties.push_back({name, {}});
    return flat_.properties[at->second];
  }

  void merge_properties() {
    bool closed = false, opened = false, named = false;
    for (const SchemaPart& part : flat_.parts) {
      const ordered_json& s = *part.schema;
      if (const auto own = s.find("properties"); own != s.end()) {
        if (!own->is_object()) reject_schema(part.path + "/properties", "is " + shown(*own) + ", expected an object");
        for (const auto& [name, schema] : own->items()) {
          property(name).schema.push_back({&schema, part.path + "/properties/" + escaped(name)});
          named = true;
        }
      }
    }
    for (const SchemaPart& part : flat_.parts) {
      const auto names = part.schema->find("required");
      if (names == part.schema->end()) continue;
      if (!names->is_array())
        reject_schema(part.path + "/required", "is " + shown(*names) + ", expected a list of names");
      for (const ordered_json& name : *names) {
        if (!name.is_string()) reject_schema(part.path + "/required", "holds " + shown(name) + ", expected names");
        property(name.get<std::string>()).required = true;
      }
    }
    for (const SchemaPart& part : flat_.parts) {
      const auto more = part.schema->find("additionalProperties");
      if (more == part.schema->end()) continue;
      const std::string path = part.path + "/additionalProperties";
      if (!more->is_boolean() && !more->is_object())
        reject_schema(path, "is " + shown(*more) + ", expected true, false or a schema");
      const bool none = more->is_boolean() && !more->get<bool>();
      closed = closed || none;
      opened = opened || !none;
      if (!none) flat_.additional.push_back({&*more, path});
      const auto own = part.schema->find("properties");
      for (FlatSchema::Property& p : flat_.properties) {
        if (own != part.schema->end() && own->contains(p.name)) continue;
        if (none && p.required)
          reject_schema(path, "is false, but \"" + escaped(p.name) + "\" is required and not among its properties");
        p.forbidden = p.forbidden || none;
        if (!none) p.schema.push_back({&*more, path});
      }
    }
    flat_.more_properties = !closed && (opened || !named);
  }

  void merge_items() {
    struct Own {
      std::string path;
      const ordered_json *prefix, *items;
    };
    std::vector<Own> all;
    size_t longest = 0;
    for (const SchemaPart& part : flat_.parts) {
      const auto find = [&](const char* key) {
        const auto at = part.schema->find(key);
        return at == part.schema->end() ? nullptr : &*at;
      };
      const Own own = {part.path, find("prefixItems"), find("items")};
      if (own.items != nullptr && own.items->is_array())
        reject_schema(part.path + "/items", "is a list, as in an older draft; write it as prefixItems");
      if (own.prefix != nullptr && !own.prefix->is_array())
        reject_schema(part.path + "/prefixItems", "is " + shown(*own.prefix) + ", expected a list of schemas");
      if (own.prefix != nullptr) longest = std::max(longest, own.prefix->size());
      all.push_back(own);
    }
    flat_.prefix.resize(longest);
    for (const Own& own : all) {
      for (size_t i = 0; i < longest; ++i) {
        if (own.prefix != nullptr && i < own.prefix->size()) {
          flat_.prefix[i].push_back({&(*own.prefix)[i], fmt::format("{}/prefixItems/{}", own.path, i)});
        } else if (own.items != nullptr) {
          flat_.prefix[i].push_back({own.items, own.path + "/items"});
        }
      }
      if (own.items == nullptr) continue;
      if (own.items->is_boolean() && !own.items->get<bool>()) flat_.more_items = false;
      flat_.items.push_back({own.items, own.path + "/items"});
    }
  }

  const SchemaDocument& document_;
  FlatSchema flat_;
  std::vector<const ordered_json*> path_;
  std::map<const ordered_json*, bool> seen_;  // and whether its anyOf has been decided
  std::map<std::string, size_t> index_;       // of properties
  bool typed_ = false;
  unsigned implied_ = 0;
};

}  // namespace

FlatSchema SchemaDocument::flatten(const Conjunction& parts) const { return Flattener(*this).flatten(parts); }

}  // namespace vl2

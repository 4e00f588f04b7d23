#include "engine/constrain/json_schema.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <utility>

#include "core/base/error.h"
#include "core/base/json.h"
#include "engine/constrain/formats.h"
#include "engine/constrain/number_bounds.h"
#include "engine/constrain/pattern.h"
#include "engine/constrain/schema_document.h"

namespace vl2 {
namespace {

using nlohmann::ordered_json;
using StateId = GrammarBuilder::StateId;
using RuleId = GrammarBuilder::RuleId;

constexpr size_t kMostWork = 100'000;  // parts, properties and values merged, of all rules together

unsigned type_of(const ordered_json& value) {
  if (value.is_object()) return kObjectType;
  if (value.is_array()) return kArrayType;
  if (value.is_string()) return kStringType;
  if (value.is_boolean()) return kBooleanType;
  if (value.is_null()) return kNullType;
  const bool whole = value.is_number_integer() || value.get<double>() == std::floor(value.get<double>());
  return whole ? kNumberType | kIntegerType : kNumberType;
}

class SchemaCompiler {
 public:
  SchemaCompiler(GrammarBuilder& builder, const SchemaDocument& document)
      : builder_(builder), json_(builder), document_(document) {}

  void compile() {
    const RuleId root = rule_for({{&document_.root(), "#"}});
    builder_.call(builder_.start(0), root, builder_.final(0));
    // A rule only names those it calls, so nothing here is as deep as the schema.
    while (!waiting_.empty()) {
      const auto [rule, parts] = std::move(waiting_.front());
      waiting_.pop_front();
      write(builder_.start(rule), builder_.final(rule), parts);
    }
  }

 private:
  using Key = std::vector<std::pair<const ordered_json*, int>>;

  RuleId rule_for(Conjunction parts) {
    if (parts.empty()) return json_.any_value();
    if (parts.size() == 1 && !parts[0].expanded) parts[0] = document_.target(parts[0]);
    Key key;
    for (const SchemaPart& p : parts) key.emplace_back(p.schema, (p.expanded ? 1 : 0) + (p.without_any_of ? 2 : 0));
    std::sort(key.begin(), key.end());
    const auto at = rules_.find(key);
    if (at != rules_.end()) return at->second;
    const RuleId rule = builder_.add_rule(parts[0].path);
    rules_.emplace(std::move(key), rule);
    waiting_.emplace_back(rule, std::move(parts));
    return rule;
  }

  void write(StateId from, StateId to, const Conjunction& parts) {
    const FlatSchema flat = document_.flatten(parts);
    count_work(1 + flat.parts.size() + flat.properties.size() + (flat.values ? flat.values->size() : 0));
    if (flat.impossible) return;
    if (flat.any_of) return alternatives(from, to, flat);
    if (flat.values) return values(from, to, flat);
    const bool anything = flat.types == kAllTypes && flat.restricted.empty();
    if (anything) return builder_.call(from, json_.any_value(), to);
    if ((flat.types & kObjectType) != 0) object(from, to, flat);
    if ((flat.types & kArrayType) != 0) array(from, to, flat);
    if ((flat.types & kStringType) != 0) string(from, to, flat);
    if ((flat.types & (kNumberType | kIntegerType)) != 0)
      add_bounded_number(builder_, json_, from, to, flat.bounds, (flat.types & kNumberType) == 0);
    if ((flat.types & kBooleanType) != 0) json_.boolean(from, to);
    if ((flat.types & kNullType) != 0) json_.null(from, to);
  }

  void count_work(size_t amount) {
    work_ += amount;
    if (work_ > kMostWork)
      fail(ErrorCode::kInvalidArgument,
           "the JSON schema: allOf, anyOf and $ref merge into more than {} schemas; write them out, or fewer",
           kMostWork);
  }

  void alternatives(StateId from, StateId to, const FlatSchema& flat) {
    const SchemaPart& owner = flat.parts[*flat.any_of];
    const ordered_json& all = owner.schema->at("anyOf");
    Conjunction beside;
    for (size_t i = 0; i < flat.parts.size(); ++i) {
      SchemaPart part = flat.parts[i];
      part.without_any_of = part.without_any_of || i == *flat.any_of;
      const bool says_something =
          std::any_of(part.schema->items().begin(), part.schema->items().end(), [&](const auto& item) {
            const std::string& key = item.key();
            return !is_annotation(key) && key != "$ref" && key != "allOf" && !(key == "anyOf" && part.without_any_of);
          });
      if (says_something) beside.push_back(std::move(part));
    }
    count_work(all.size() * beside.size());
    for (size_t i = 0; i < all.size(); ++i) {
      Conjunction parts = beside;
      parts.push_back({&all[i], fmt::format("{}/anyOf/{}", owner.path, i)});
      builder_.call(from, rule_for(std::move(parts)), to);
    }
  }

  void values(StateId from, StateId to, const FlatSchema& flat) {
    if (!flat.restricted.empty())
      reject_schema(flat.restricted,
                    "stands beside " + flat.values_path + ", which is not supported; keep one of them");
    std::vector<std::string> texts;
    for (const ordered_json& value : *flat.values)
      if ((type_of(value) & flat.types) != 0) texts.push_back(value.dump());
    if (texts.empty()) reject_schema(flat.values_path, "holds no value of the type that the schema asks for");
    builder_.one_of(from, std::move(texts), to);
  }

  void object(StateId from, StateId to, const FlatSchema& flat) {
    const StateId none = json_.gap(builder_.literal(from, "{"));  // nothing is written yet
    StateId some = builder_.state();                              // something is
    bool may_be_none = true, may_be_some = false;
    const auto pair_begins = [&] {
      const StateId begin = builder_.state();
      if (may_be_none) builder_.epsilon(none, begin);
      if (may_be_some) json_.gap(builder_.literal(some, ","), begin);
      return begin;
    };
    std::vector<std::string> names;
    for (const FlatSchema::Property& p : flat.properties) {
      names.push_back(p.name);
      if (p.forbidden) continue;
      const StateId key_end = builder_.literal(pair_begins(), ordered_json(p.name).dump());
      const StateId after = builder_.state();
      builder_.call(json_.colon(key_end), rule_for(p.schema), after);
      if (!p.required && may_be_some) builder_.epsilon(some, after);
      some = after;
      may_be_some = true;
      may_be_none = may_be_none && !p.required;
    }
    if (flat.more_properties) {
      const StateId begin = pair_begins(), key_end = builder_.state(), after = builder_.state();
      if (names.empty()) {
        json_.string(begin, key_end);
      } else {
        json_.key_besides(begin, key_end, names);
      }
      builder_.call(json_.colon(key_end), rule_for(flat.additional), after);
      json_.gap(builder_.literal(after, ","), begin);
      if (may_be_some) builder_.epsilon(some, after);
      some = after;
      may_be_some = true;
    }
    const StateId close = builder_.state();
    if (may_be_none) builder_.epsilon(none, close);
    if (may_be_some) json_.gap(some, close);
    builder_.range(close, '}', '}', to);
  }

  void array(StateId from, StateId to, const FlatSchema& flat) {
    std::vector<RuleId> front;
    for (const Conjunction& parts : flat.prefix) front.push_back(rule_for(parts));
    std::optional<RuleId> item;
    if (flat.more_items) item = rule_for(flat.items);
    json_.array(from, to, front, item, flat.min_items, flat.max_items);
  }

  void string(StateId from, StateId to, const FlatSchema& flat) {
    const bool lengths = flat.min_length > 0 || flat.max_length;
    if (!flat.pattern && !flat.format) {
      if (!flat.max_length || *flat.max_length >= flat.min_length)
        json_.string(from, to, flat.min_length, flat.max_length);
      return;
    }
    const FlatSchema::Text& text = flat.pattern ? *flat.pattern : *flat.format;
    if (lengths)
      reject_schema(text.path, "stands beside minLength or maxLength, which is not supported; keep one of them");
    if (flat.pattern && flat.format)
      reject_schema(text.path, "stands beside " + flat.format->path + ", which is not supported; keep one of them");
    std::string pattern = text.text;
    if (flat.format) {
      const std::optional<std::string> known = format_pattern(text.text);
      if (!known)
        reject_schema(text.path, "is " + describe_json(nlohmann::json(text.text)) + ", expected " + known_formats());
      pattern = *known;
    }
    const StateId begin = builder_.literal(from, "\""), end = builder_.state();
    add_pattern(builder_, begin, end, parse_pattern(pattern, "the JSON schema: " + text.path),
                flat.pattern ? Matching::kAnywhere : Matching::kWhole, Spelling::kJson);
    builder_.range(end, '"', '"', to);
  }

  GrammarBuilder& builder_;
  JsonGrammar json_;
  const SchemaDocument& document_;
  std::map<Key, RuleId> rules_;
  std::deque<std::pair<RuleId, Conjunction>> waiting_;
  size_t work_ = 0;
};

}  // namespace

void add_json_schema(GrammarBuilder& builder, std::string_view schema) {
  const SchemaDocument document(schema);
  SchemaCompiler(builder, document).compile();
}

}  // namespace vl2

#include "apps/server/api_format.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "apps/server/api_error.h"
#include "core/base/json.h"
#include "engine/runtime/engine.h"

namespace vl2::server {
namespace {

using nlohmann::ordered_json;

[[noreturn]] void reject(const std::string& param, const ordered_json* value, const std::string& expected,
                         const std::string& code = "") {
  const std::string found = value == nullptr ? "missing" : describe_json(nlohmann::json(*value));
  throw ApiError(400, fmt::format("{} is {}, expected {}", param, found, expected), code, param);
}

const ordered_json* find(const ordered_json& object, const char* key) {
  const auto at = object.find(key);
  return at == object.end() || at->is_null() ? nullptr : &*at;
}

AnswerForm schema_form(const ordered_json* schema, const std::string& param) {
  if (schema == nullptr || !schema->is_object()) reject(param, schema, "a JSON schema, which is an object");
  return {ConstraintSpec::json_schema(schema->dump()), param};
}

AnswerForm regex_form(const ordered_json& format, const std::string& param) {
  const ordered_json* pattern = find(format, "pattern");
  if (pattern == nullptr || !pattern->is_string()) reject(param + ".pattern", pattern, "a regular expression");
  return {ConstraintSpec::regex(pattern->get<std::string>()), param + ".pattern"};
}

AnswerForm choices_form(const ordered_json& format, const std::string& param) {
  const ordered_json* choices = find(format, "choices");
  const std::string name = param + ".choices";
  if (choices == nullptr || !choices->is_array()) reject(name, choices, "a list of texts");
  std::vector<std::string> texts;
  for (const ordered_json& one : *choices) {
    if (!one.is_string()) reject(name, choices, "a list of texts");
    texts.push_back(one.get<std::string>());
  }
  return {ConstraintSpec::one_of(std::move(texts)), name};
}

}  // namespace

std::optional<AnswerForm> parse_response_format(const ordered_json& format, const std::string& param) {
  if (format.is_null()) return std::nullopt;
  if (!format.is_object()) reject(param, &format, "an object with a type");
  const ordered_json* type = find(format, "type");
  const std::string name = type != nullptr && type->is_string() ? type->get<std::string>() : "";
  if (name == "text") return std::nullopt;
  if (name == "json_object") {
    // Some servers take a schema here; without it the client would get less than it asked for.
    if (const ordered_json* schema = find(format, "schema")) return schema_form(schema, param + ".schema");
    return AnswerForm{ConstraintSpec::json_object(), param};
  }
  if (name == "json_schema") {
    // Chat completions wrap the schema, Responses do not.
    const ordered_json* wrapped = find(format, "json_schema");
    if (wrapped == nullptr) return schema_form(find(format, "schema"), param + ".schema");
    if (!wrapped->is_object()) reject(param + ".json_schema", wrapped, "an object with name and schema");
    return schema_form(find(*wrapped, "schema"), param + ".json_schema.schema");
  }
  if (name == "regex") return regex_form(format, param);
  if (name == "choices") return choices_form(format, param);
  if (name == "grounding") return AnswerForm{ConstraintSpec::grounding(), param};
  reject(param + ".type", type, "text, json_object, json_schema, regex, choices or grounding", "unsupported_value");
}

std::optional<AnswerForm> parse_bare_format(const ordered_json& format, const std::string& param) {
  if (format.is_null() || format == "") return std::nullopt;
  if (format == "json") return AnswerForm{ConstraintSpec::json_object(), param};
  if (!format.is_object()) reject(param, &format, "\"json\" or a JSON schema", "unsupported_value");
  return schema_form(&format, param);
}

std::shared_ptr<const Constraint> compile_form(Engine& engine, const AnswerForm& form) {
  try {
    return engine.compile(form.spec);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInvalidArgument) throw bad_request(error, "", form.param);
    if (error.code() == ErrorCode::kUnsupported) throw bad_request(error, "unsupported_value", form.param);
    throw;
  }
}

}  // namespace vl2::server

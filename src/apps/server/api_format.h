// What an answer must look like: response_format of a request, and the constraint that holds an answer to it.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "engine/constrain/constraint.h"

namespace vl2 {
class Engine;
}

namespace vl2::server {

struct AnswerForm {
  ConstraintSpec spec;
  std::string param;  // the field that defines it: "response_format.json_schema.schema"
};

// `format`: the value of `param`, keys in the order they were written, because answers follow a schema's order. Types:
// text (nothing), json_object, json_schema; additions: regex, choices, grounding. ApiError 400.
std::optional<AnswerForm> parse_response_format(const nlohmann::ordered_json& format, const std::string& param);

// A form whose schema stands alone, as in Ollama's `format`: "json" or a schema; "" is nothing.
std::optional<AnswerForm> parse_bare_format(const nlohmann::ordered_json& format, const std::string& param);

// ApiError 400, naming the field: a definition that is not understood, or too much. Any thread.
std::shared_ptr<const Constraint> compile_form(Engine& engine, const AnswerForm& form);

}  // namespace vl2::server

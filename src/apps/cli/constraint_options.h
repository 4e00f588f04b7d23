// The options that say what an answer must be: a value of a JSON schema, a match, a choice, well-formed boxes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/model_spec/model_config.h"
#include "core/text/tokenizer.h"
#include "engine/constrain/constraint.h"

namespace CLI {
class App;
}

namespace vl2::cli {

// --json-schema, --choices, --regex, --grounding
struct ConstraintOptions {
  std::string json_schema, regex;  // a file; a pattern
  std::vector<std::string> choices;
  bool grounding = false;

  void check() const;  // UsageError: more than one of them
  // Null without any of them. Errors as ConstraintCompiler::compile(), and of reading the file.
  std::shared_ptr<const Constraint> compile(std::shared_ptr<const Tokenizer> tokenizer,
                                            const ModelConfig& config) const;
};
void add_constraint_options(CLI::App& app, ConstraintOptions& options);

}  // namespace vl2::cli

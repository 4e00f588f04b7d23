#include "apps/cli/constraint_options.h"

#include <CLI/CLI.hpp>

#include "apps/cli/commands.h"
#include "core/base/error.h"
#include "core/base/file.h"

namespace vl2::cli {
namespace {

constexpr size_t kLargestSchema = size_t{16} << 20;  // the compiler's own limit is lower and says why

}  // namespace

void ConstraintOptions::check() const {
  const int given =
      (json_schema.empty() ? 0 : 1) + (regex.empty() ? 0 : 1) + (choices.empty() ? 0 : 1) + (grounding ? 1 : 0);
  if (given > 1)
    throw UsageError("an answer can be held to one of --json-schema, --regex, --choices and --grounding only");
}

std::shared_ptr<const Constraint> ConstraintOptions::compile(std::shared_ptr<const Tokenizer> tokenizer,
                                                             const ModelConfig& config) const {
  ConstraintCompiler compiler(std::move(tokenizer), static_cast<int32_t>(config.language.eos_token_id));
  if (grounding) return compiler.compile(ConstraintSpec::grounding());
  if (!choices.empty()) return compiler.compile(ConstraintSpec::one_of(choices));
  if (!regex.empty()) return compiler.compile(ConstraintSpec::regex(regex));
  if (json_schema.empty()) return nullptr;
  return compiler.compile(ConstraintSpec::json_schema(read_file(json_schema, kLargestSchema)));
}

void add_constraint_options(CLI::App& app, ConstraintOptions& options) {
  app.add_option("--json-schema", options.json_schema, "The answer is JSON, valid against the schema in this file")
      ->type_name("FILE");
  app.add_option("--regex", options.regex, "The answer is a match of this regular expression, as a whole")
      ->type_name("PATTERN");
  app.add_option("--choices", options.choices, "The answer is one of these texts, separated by commas")
      ->type_name("A,B,...")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_flag("--grounding", options.grounding, "Boxes in the answer are well formed: 0..999, corners in order");
}

}  // namespace vl2::cli

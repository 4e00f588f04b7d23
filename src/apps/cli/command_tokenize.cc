// vl2 tokenize: JSON strings to JSON arrays of ids, and back with --decode.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/commands.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/options.h"
#include "apps/cli/terminal.h"
#include "core/base/json.h"
#include "core/processor/processor.h"

namespace vl2::cli {
namespace {

using nlohmann::json;

struct TokenizeOptions {
  std::string model, tokenizer;
  bool decode = false, skip_special = false, pieces = false;
};

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string encode_line(const Tokenizer& tokenizer, const json& value, const std::string& where, bool pieces) {
  if (!value.is_string())
    fail(ErrorCode::kInvalidArgument, "{}: {}, expected a JSON string such as \"Hello\"", where, describe_json(value));
  const std::vector<int32_t> ids = tokenizer.encode(value.get_ref<const std::string&>());
  if (!pieces) return dump(ids);
  json list = json::array();
  for (const int32_t id : ids) list.push_back({id, tokenizer.decode({{id}})});
  return dump(list);
}

std::string decode_line(const Tokenizer& tokenizer, const json& value, const std::string& where, bool skip_special) {
  std::vector<int32_t> ids;
  bool right = value.is_array();
  if (right)
    for (const json& id : value) {
      right = id.is_number_integer() && id >= 0 && id <= INT32_MAX;
      if (!right) break;
      ids.push_back(id.get<int32_t>());
    }
  if (!right)
    fail(ErrorCode::kInvalidArgument, "{}: {}, expected a JSON array of token ids such as [1, 2]", where,
         describe_json(value));
  return dump(tokenizer.decode(ids, skip_special));
}

int run(const TokenizeOptions& options) {
  const Tokenizer tokenizer =
      Tokenizer::load(options.tokenizer.empty() ? find_model(options.model) : std::filesystem::path(options.tokenizer));
  int64_t number = 0;
  while (const auto line = read_stdin_line()) {
    const std::string where = fmt::format("line {} of stdin", ++number);
    const json value = parse_json(*line, where);
    write_stdout((options.decode ? decode_line(tokenizer, value, where, options.skip_special)
                                 : encode_line(tokenizer, value, where, options.pieces)) +
                 "\n");
  }
  return kExitOk;
}

}  // namespace

RunCommand declare_tokenize(CLI::App& app) {
  const auto options = std::make_shared<TokenizeOptions>();
  add_model_option(app, options->model);
  app.add_option("--tokenizer", options->tokenizer, "A tokenizer.json instead of a model's")
      ->type_name("FILE")
      ->excludes("--model");
  auto* decode = app.add_flag("--decode", options->decode, "Ids to text: stdin has a JSON array of ids a line");
  app.add_flag("--skip-special", options->skip_special, "Leave special tokens out of the text")->needs(decode);
  app.add_flag("--pieces", options->pieces, "Show every id with its text: [[id, \"text\"], ...]")->excludes(decode);
  app.footer(
      "stdin has a JSON string a line; each line of stdout is a JSON array of ids. No bos or eos is added;\n"
      "special tokens in the text are recognised.\n\n"
      "Example:\n  echo '\"What colour is the circle?\"' | vl2 tokenize\n"
      "  echo '[0, 452, 28]' | vl2 tokenize --decode");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli

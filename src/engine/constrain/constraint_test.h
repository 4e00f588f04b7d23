// For tests only: tokenizers, random answers under a constraint, and a judge of JSON schemas that shares nothing with
// the code under test.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/test_data.h"
#include "core/text/toy_tokenizer.h"
#include "core/text/utf8.h"
#include "engine/constrain/constraint.h"

namespace vl2 {

struct TestVocabulary {
  std::shared_ptr<const Tokenizer> tokenizer;
  int32_t eos = 0;
  ConstraintCompiler compiler;

  TestVocabulary(std::shared_ptr<const Tokenizer> t, int32_t end) : tokenizer(t), eos(end), compiler(t, end) {}
};

inline std::shared_ptr<TestVocabulary> make_vocabulary(Tokenizer tokenizer) {
  const int32_t eos = tokenizer.add_special_token("<｜end▁of▁sentence｜>");
  for (const char* tag : {"<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|Assistant|>"})
    tokenizer.add_special_token(tag);
  return std::make_shared<TestVocabulary>(std::make_shared<const Tokenizer>(std::move(tokenizer)), eos);
}

// The small model's own; and one of single bytes and a few tokens that cross what JSON keeps apart.
inline TestVocabulary& nano_vocabulary() {
  static const auto vocabulary =
      make_vocabulary(Tokenizer::load(std::filesystem::path(source_dir()) / "tests/goldens/nano/model/tokenizer.json"));
  return *vocabulary;
}
inline TestVocabulary& toy_vocabulary() {
  static const auto vocabulary = make_vocabulary(
      parse_toy(toy_tokenizer_json({"{ \"", "\" :", "\": \"", "\" }", "\" ,", ", Ġ", "1 2", "] ]", "] ,", "a b", "ab c",
                                    "n u", "nu l", "nul l", "t r", "Ã ©", "[ [", "\\ u"})));
  return *vocabulary;
}

inline std::string error_of(TestVocabulary& vocabulary, const ConstraintSpec& spec) {
  try {
    vocabulary.compiler.compile(spec);
  } catch (const Error& error) {
    return (error.code() == ErrorCode::kInvalidArgument ? "" : "wrong code: ") + std::string(error.what());
  }
  return "no error";
}

// Whether the answer, in single bytes and in the tokenizer's own tokens, is exactly what the constraint lets through.
inline bool fits(TestVocabulary& vocabulary, const ConstraintSpec& spec, const std::string& text) {
  const auto constraint = vocabulary.compiler.compile(spec);
  const auto run = [&](const std::vector<int32_t>& ids) {
    ConstraintState state(constraint);
    for (const int32_t id : ids) {
      const bool allowed = state.allowed().has(id);
      EXPECT_EQ(state.accept(id), allowed) << "mask and accept() differ in " << text;
      if (!allowed) return false;
    }
    return state.may_end();
  };
  std::vector<int32_t> bytes;
  for (const char c : text) bytes.push_back(*vocabulary.tokenizer->token_id(byte_level_spelling(std::string(1, c))));
  const bool result = run(bytes);
  if (!is_valid_utf8(text)) return result;  // encode() would repair it
  EXPECT_EQ(run(vocabulary.tokenizer->encode(text)), result) << text;
  return result;
}

struct RandomAnswer {
  std::vector<int32_t> ids;  // without the end
  std::string text;
  bool ended = false;
};

// Draws from what is allowed as random logits would; `likely` tokens half of the time, so that answers have a
// structure. After `patience` tokens only ends are looked for. Fails where nothing is allowed.
inline RandomAnswer random_answer(TestVocabulary& vocabulary, const std::shared_ptr<const Constraint>& constraint,
                                  uint64_t seed, int patience = 120, const std::vector<int32_t>& prompt = {}) {
  Random random(seed);
  RandomAnswer answer;
  std::vector<int32_t> likely = {vocabulary.eos}, closing = {vocabulary.eos}, tags;
  const auto add = [&](std::vector<int32_t>& list, const std::string& spelling) {
    if (const auto id = vocabulary.tokenizer->token_id(spelling)) list.push_back(*id);
  };
  for (const char* s : {"<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>"}) add(tags, s);
  for (const char c : std::string("{}[]\",:0123456789 ")) add(likely, byte_level_spelling(std::string(1, c)));
  for (const char* s : {"<|/det|>", "<|/ref|>", "}", "]", "\"", "0", "9"}) add(closing, s);
  ConstraintState state(constraint, prompt);
  while (answer.ids.size() < 4000) {
    const TokenMask& mask = state.allowed();
    if (mask.allowed == 0) {
      ADD_FAILURE() << "nothing is allowed after " << answer.text;
      return answer;
    }
    int32_t id = -1;
    const auto from_list = [&](const std::vector<int32_t>& list, bool in_order) {
      std::vector<int32_t> there;
      for (const int32_t t : list)
        if (mask.has(t)) there.push_back(t);
      if (!there.empty())
        id = there[in_order ? 0 : static_cast<size_t>(random.below(static_cast<int64_t>(there.size())))];
    };
    const bool close = static_cast<int>(answer.ids.size()) >= patience;
    if (close && random.uniform() < 0.7) {
      from_list(closing, true);
    } else if (close || random.uniform() < 0.6) {
      if (random.uniform() < 0.4) from_list(tags, false);
      if (id < 0) from_list(likely, false);
    }
    if (id < 0) {  // the n-th allowed one
      int64_t n = random.below(mask.allowed);
      for (id = 0;; ++id)
        if (mask.has(id) && n-- == 0) break;
    }
    if (id == vocabulary.eos) {
      EXPECT_TRUE(state.may_end());
      EXPECT_TRUE(state.accept(id));
      EXPECT_EQ(state.allowed().allowed, 0);
      answer.ended = true;
      return answer;
    }
    EXPECT_TRUE(state.accept(id)) << "token " << id << " was allowed after " << answer.text;
    answer.ids.push_back(id);
    answer.text += vocabulary.tokenizer->token_text(id);
  }
  return answer;
}

// --- the judge ---

inline size_t characters(const std::string& text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
  return count;
}

inline bool has_type(const nlohmann::json& v, const std::string& type) {
  if (type == "object") return v.is_object();
  if (type == "array") return v.is_array();
  if (type == "string") return v.is_string();
  if (type == "number") return v.is_number();
  if (type == "integer")
    return v.is_number_integer() || (v.is_number() && std::floor(v.get<double>()) == v.get<double>());
  if (type == "boolean") return v.is_boolean();
  return type == "null" && v.is_null();
}

// As the standard has it, keyword by keyword. Empty: valid; else why not.
inline std::string invalid(const nlohmann::json& schema, const nlohmann::json& v, const nlohmann::json& root) {
  if (schema.is_boolean()) return schema.get<bool>() ? "" : "nothing is valid against false";
  for (const auto& [key, arg] : schema.items()) {
    bool good = true;
    if (key == "type") {
      good = arg.is_string() ? has_type(v, arg)
                             : std::any_of(arg.begin(), arg.end(), [&](const auto& t) { return has_type(v, t); });
    } else if (key == "enum") {
      good = std::find(arg.begin(), arg.end(), v) != arg.end();
    } else if (key == "const") {
      good = v == arg;
    } else if (key == "anyOf") {
      good = std::any_of(arg.begin(), arg.end(), [&](const auto& s) { return invalid(s, v, root).empty(); });
    } else if (key == "allOf") {
      good = std::all_of(arg.begin(), arg.end(), [&](const auto& s) { return invalid(s, v, root).empty(); });
    } else if (key == "$ref") {
      good = invalid(root.at(nlohmann::json::json_pointer(arg.get<std::string>().substr(1))), v, root).empty();
    } else if (v.is_object() && key == "required") {
      good = std::all_of(arg.begin(), arg.end(),
                         [&](const auto& name) { return v.contains(name.template get<std::string>()); });
    } else if (v.is_object() && key == "properties") {
      for (const auto& [name, s] : arg.items())
        good = good && (!v.contains(name) || invalid(s, v.at(name), root).empty());
    } else if (v.is_object() && key == "additionalProperties") {
      for (const auto& [name, inner] : v.items())
        if (!schema.contains("properties") || !schema.at("properties").contains(name))
          good = good && invalid(arg, inner, root).empty();
    } else if (v.is_array() && (key == "items" || key == "prefixItems")) {
      const size_t front = schema.contains("prefixItems") ? schema.at("prefixItems").size() : 0;
      for (size_t i = 0; i < v.size(); ++i) {
        if (key == "items" && i >= front) good = good && invalid(arg, v[i], root).empty();
        if (key == "prefixItems" && i < front) good = good && invalid(arg[i], v[i], root).empty();
      }
    } else if (v.is_array() && key == "minItems") {
      good = v.size() >= arg.get<size_t>();
    } else if (v.is_array() && key == "maxItems") {
      good = v.size() <= arg.get<size_t>();
    } else if (v.is_string() && key == "minLength") {
      good = characters(v) >= arg.get<size_t>();
    } else if (v.is_string() && key == "maxLength") {
      good = characters(v) <= arg.get<size_t>();
    } else if (v.is_string() && key == "pattern") {
      good = std::regex_search(v.get<std::string>(), std::regex(arg.get<std::string>()));
    } else if (v.is_number() && key == "minimum") {
      good = v >= arg;
    } else if (v.is_number() && key == "maximum") {
      good = v <= arg;
    } else if (v.is_number() && key == "exclusiveMinimum") {
      good = v > arg;
    } else if (v.is_number() && key == "exclusiveMaximum") {
      good = v < arg;
    }
    if (!good) return key + " " + arg.dump() + " against " + v.dump();
  }
  return "";
}

}  // namespace vl2

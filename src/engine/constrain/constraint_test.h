// For tests only: tokenizers, and random answers under a constraint.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/test_data.h"
#include "core/text/toy_tokenizer.h"
#include "core/text/utf8.h"
#include "engine/constrain/constraint.h"
#include "engine/constrain/schema_judge_test.h"

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

}  // namespace vl2

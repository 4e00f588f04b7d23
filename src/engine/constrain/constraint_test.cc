#include "engine/constrain/constraint.h"

#include <chrono>
#include <thread>

#include "engine/constrain/constraint_test.h"

namespace vl2 {
namespace {

using nlohmann::json;

// As clients of the OpenAI API send them, and what the subset has besides.
const std::vector<std::string>& client_schemas() {
  static const std::vector<std::string> all = {
      R"({"$schema":"http://json-schema.org/draft-07/schema#","title":"Person","type":"object","properties":{
          "name":{"type":"string","description":"full name"},"age":{"type":"integer","minimum":0,"maximum":130},
          "email":{"anyOf":[{"type":"string","format":"email"},{"type":"null"}],"default":null}},
          "required":["name","age"],"additionalProperties":false})",
      R"({"type":"object","properties":{"boxes":{"type":"array","items":{"type":"array","items":{"type":"number"},
          "minItems":4,"maxItems":4}},"label":{"enum":["cat","dog","a \"quoted\" é"]}},"required":["boxes","label"],
          "additionalProperties":false})",
      R"({"$defs":{"Node":{"title":"Node","type":"object","properties":{"value":{"type":"number","minimum":-1,"maximum":1},
          "children":{"type":"array","items":{"$ref":"#/$defs/Node"}}},"required":["value","children"],
          "additionalProperties":false}},"$ref":"#/$defs/Node"})",
      R"({"title":"Invoice","type":"object","properties":{"id":{"type":"string","pattern":"^[A-Z]{3}-[0-9]{4}$"},
          "lines":{"type":"array","minItems":1,"items":{"type":"object","properties":{"what":{"type":"string","minLength":1,
          "maxLength":12},"price":{"type":"number","exclusiveMinimum":0},"paid":{"type":"boolean"}},
          "required":["what","price"],"additionalProperties":false}},"meta":{"type":"object","additionalProperties":
          {"type":"string"}}},"required":["id","lines"]})",
      R"({"allOf":[{"$ref":"#/definitions/base"},{"properties":{"kind":{"const":"x"}},"required":["kind"]}],
          "definitions":{"base":{"type":"object","properties":{"kind":{"type":"string"},"n":{"type":["integer","null"]}},
          "required":["n"]}}})",
      R"({"anyOf":[{"type":"object","properties":{"t":{"const":"circle"},"r":{"type":"number"}},"required":["t","r"],
          "additionalProperties":false},{"type":"object","properties":{"t":{"const":"square"},"side":{"type":"integer"}},
          "required":["t","side"],"additionalProperties":false}]})",
      R"({"type":"array","prefixItems":[{"type":"string","format":"date"},{"type":"integer"}],"items":{"type":"boolean"},
          "minItems":2,"maxItems":5})",
      R"({"type":"object"})",
      R"({"type":"object","properties":{"any":{}, "z":true},"required":["any"],"additionalProperties":true})",
  };
  return all;
}

void check_schemas(TestVocabulary& vocabulary, int runs) {
  for (const std::string& text : client_schemas()) {
    const json schema = json::parse(text);
    const auto constraint = vocabulary.compiler.compile(ConstraintSpec::json_schema(text));
    for (int run = 0; run < runs; ++run) {
      const RandomAnswer answer =
          random_answer(vocabulary, constraint, static_cast<uint64_t>(run) + 1, 20 + run * 3 % 150);
      ASSERT_TRUE(answer.ended) << text << "\n" << answer.text;
      const json value = json::parse(answer.text, nullptr, false);
      ASSERT_FALSE(value.is_discarded()) << text << "\n" << answer.text;
      ASSERT_EQ(invalid(schema, value, schema), "") << text << "\n" << answer.text;
    }
  }
}

TEST(Constraint, RandomAnswersAreValidAgainstTheSchemasThatClientsSend) { check_schemas(nano_vocabulary(), 60); }
TEST(Constraint, RandomAnswersInSingleBytesAreValidAsWell) { check_schemas(toy_vocabulary(), 60); }

TEST(Constraint, RandomObjectsAreObjectsForAStrictParser) {
  for (TestVocabulary* vocabulary : {&nano_vocabulary(), &toy_vocabulary()}) {
    const auto constraint = vocabulary->compiler.compile(ConstraintSpec::json_object());
    for (uint64_t seed = 1; seed <= 200; ++seed) {
      const RandomAnswer answer = random_answer(*vocabulary, constraint, seed);
      ASSERT_TRUE(answer.ended) << answer.text;
      ASSERT_TRUE(is_valid_utf8(answer.text));
      ASSERT_TRUE(json::parse(answer.text, nullptr, false).is_object()) << answer.text;
    }
  }
}

TEST(Constraint, ObjectsAreJsonAndNothingElse) {
  const auto spec = ConstraintSpec::json_object();
  for (const char* text : {"{}", R"({"a": [1, {"b": null}], "c": "d"})", "{\n  \"a\": 1\n}", R"({"é":"\u00e9"})"})
    EXPECT_TRUE(fits(toy_vocabulary(), spec, text)) << text;
  for (const char* text : {"[]", "{", R"({"a" 1})", R"({"a":1,})", R"({a:1})", "{}  ", " {}", "{}{}", R"({"a":tru})",
                           "{   }", R"({"a":     1})"})
    EXPECT_FALSE(fits(toy_vocabulary(), spec, text)) << text;
}

TEST(Constraint, RandomMatchesMatch) {
  const std::vector<std::string> patterns = {"[a-c]{2,5}(-[0-9]+)?", "(yes|no|maybe)!*", "\\d{4}-\\d\\d",
                                             "[^a-z\\n]{3}x?", "(a|ab)(c|bcd)(d*)"};
  for (const std::string& pattern : patterns) {
    const auto constraint = nano_vocabulary().compiler.compile(ConstraintSpec::regex(pattern));
    for (uint64_t seed = 1; seed <= 30; ++seed) {
      const RandomAnswer answer = random_answer(nano_vocabulary(), constraint, seed, 30);
      ASSERT_TRUE(answer.ended) << answer.text;
      ASSERT_TRUE(is_valid_utf8(answer.text)) << answer.text;
      std::string ascii;  // std::regex knows bytes only
      for (size_t i = 0; i < answer.text.size(); i += utf8_length(answer.text, i))
        ascii += utf8_length(answer.text, i) > 1 ? '~' : answer.text[i];
      ASSERT_TRUE(std::regex_match(ascii, std::regex(pattern))) << pattern << " " << answer.text;
    }
  }
}

TEST(Constraint, ChoicesAreTakenWholeAndAllOfThemCanBe) {
  const std::vector<std::string> choices = {"cat", "category", "dog", "döner", "a b", "a"};
  const auto spec = ConstraintSpec::one_of(choices);
  for (const std::string& choice : choices) EXPECT_TRUE(fits(nano_vocabulary(), spec, choice)) << choice;
  for (const char* text : {"", "ca", "catego", "cats", "dogcat", "d\xc3"})
    EXPECT_FALSE(fits(nano_vocabulary(), spec, text));
  const auto constraint = nano_vocabulary().compiler.compile(spec);
  std::vector<std::string> seen;
  for (uint64_t seed = 1; seed <= 200; ++seed) seen.push_back(random_answer(nano_vocabulary(), constraint, seed).text);
  for (const std::string& choice : choices)
    EXPECT_NE(std::find(seen.begin(), seen.end(), choice), seen.end()) << choice;
}

TEST(Constraint, NoAddedTokenIsAllowedWithinJsonRegexOrChoices) {
  TestVocabulary& v = nano_vocabulary();
  for (const auto& spec :
       {ConstraintSpec::json_object(), ConstraintSpec::regex(".*"), ConstraintSpec::one_of({"<|ref|>"})}) {
    ConstraintState state(v.compiler.compile(spec));
    for (int32_t id = 0; id <= v.tokenizer->highest_id(); ++id) {
      if (!v.tokenizer->is_added(id) || id == v.eos) continue;
      EXPECT_FALSE(state.allowed().has(id));
      EXPECT_FALSE(state.accept(id));
    }
  }
}

TEST(Constraint, TheEndIsAllowedExactlyWhereTheTextMayEnd) {
  TestVocabulary& v = toy_vocabulary();
  ConstraintState state(v.compiler.compile(ConstraintSpec::regex("ab?")));
  EXPECT_FALSE(state.may_end());
  EXPECT_FALSE(state.accept(v.eos));
  EXPECT_EQ(state.forced(), std::nullopt) << "a, or the token ab";
  EXPECT_TRUE(state.accept('a'));
  EXPECT_TRUE(state.may_end());
  ConstraintState copy = state;
  EXPECT_TRUE(copy.accept('b'));
  EXPECT_EQ(copy.forced(), v.eos);
  EXPECT_TRUE(copy.accept(v.eos));
  EXPECT_TRUE(copy.ended());
  EXPECT_FALSE(copy.accept(v.eos));
  EXPECT_TRUE(state.accept(v.eos)) << "a copy goes its own way";
}

// Every id, allowed or not: the mask, made from the tree of tokens, and accept(), byte by byte, must agree.
TEST(Constraint, MasksAgreeWithTakingEachTokenAlone) {
  for (TestVocabulary* v : {&nano_vocabulary(), &toy_vocabulary()})
    for (const std::string& schema : client_schemas()) {
      const auto constraint = v->compiler.compile(ConstraintSpec::json_schema(schema));
      const RandomAnswer answer = random_answer(*v, constraint, 5, 40);
      ConstraintState state(constraint);
      for (size_t i = 0; i < std::min<size_t>(answer.ids.size(), 25); ++i) {
        for (int32_t id = 0; id <= v->tokenizer->highest_id(); ++id) {
          ConstraintState copy = state;
          ASSERT_EQ(state.allowed().has(id), copy.accept(id)) << schema << " token " << id;
        }
        ASSERT_TRUE(state.accept(answer.ids[i]));
      }
    }
}

TEST(Constraint, WhatIsForgottenIsFoundOutAnewTheSame) {
  TestVocabulary& v = nano_vocabulary();
  ConstraintCompiler forgetful(v.tokenizer, v.eos, size_t{24} * 1024);
  for (const auto& spec :
       {ConstraintSpec::json_object(), ConstraintSpec::grounding(), ConstraintSpec::json_schema(client_schemas()[2])}) {
    const auto constraint = v.compiler.compile(spec), small = forgetful.compile(spec);
    ConstraintState held(small);
    std::vector<uint64_t> held_mask;
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      const RandomAnswer answer = random_answer(v, constraint, seed);
      ConstraintState a(constraint), b(small);
      for (size_t i = 0; i < answer.ids.size(); ++i) {
        ASSERT_EQ(a.allowed().bits, b.allowed().bits) << answer.text;
        ASSERT_TRUE(a.accept(answer.ids[i]));
        ASSERT_TRUE(b.accept(answer.ids[i]));
        if (seed == 1 && i == answer.ids.size() / 2) {
          held = b;
          held_mask = a.allowed().bits;
        }
      }
    }
    EXPECT_GT(small->times_forgotten(), 0) << "the test has something to look at";
    EXPECT_EQ(constraint->times_forgotten(), 0);
    EXPECT_EQ(held.allowed().bits, held_mask) << "an answer that waited while others went on";
  }
}

TEST(Constraint, ManyThreadsShareOne) {
  TestVocabulary& v = nano_vocabulary();
  std::vector<std::string> texts(4);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < texts.size(); ++t)
    threads.emplace_back([&, t] {
      const auto constraint = v.compiler.compile(ConstraintSpec::json_schema(client_schemas()[2]));
      for (uint64_t seed = 1; seed <= 5; ++seed) texts[t] += random_answer(v, constraint, seed, 40).text;
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : texts) EXPECT_EQ(text, texts[0]);
}

TEST(Constraint, DefinitionsAreCompiledOnce) {
  ConstraintCompiler& compiler = nano_vocabulary().compiler;
  const auto a = compiler.compile(ConstraintSpec::regex("abc"));
  EXPECT_EQ(a, compiler.compile(ConstraintSpec::regex("abc")));
  EXPECT_NE(a, compiler.compile(ConstraintSpec::one_of({"abc"})));
}

TEST(Constraint, BadChoicesAreRefused) {
  const auto refused = [](std::vector<std::string> choices) {
    return error_of(toy_vocabulary(), ConstraintSpec::one_of(std::move(choices)));
  };
  EXPECT_NE(refused({}).find("empty; give at least one"), std::string::npos);
  EXPECT_NE(refused({"a", ""}).find("choice 2 is empty"), std::string::npos);
  EXPECT_NE(refused({"\xff"}).find("not UTF-8"), std::string::npos);
  EXPECT_NE(refused({std::string(2 << 20, 'a')}).find("2097152 bytes"), std::string::npos);
  EXPECT_NE(refused(std::vector<std::string>(20'001, "a")).find("20001 choices, at most 20000"), std::string::npos);
}

TEST(Constraint, BytesWithoutATokenAreNeverCountedOn) {
  json definition = toy_tokenizer_json();
  definition["model"]["vocab"].erase(byte_level_spelling("b"));
  definition["model"]["vocab"].erase(byte_level_spelling("\xc3"));
  const auto v = make_vocabulary(parse_toy(definition));
  EXPECT_NE(error_of(*v, ConstraintSpec::regex("abc")).find("fits no text"), std::string::npos);
  const auto constraint = v->compiler.compile(ConstraintSpec::regex("(b|d|é){3}"));
  EXPECT_EQ(random_answer(*v, constraint, 1).text, "ddd");
}

}  // namespace
}  // namespace vl2

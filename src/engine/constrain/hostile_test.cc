// Definitions made to take for ever, or all memory: refused at once, with numbers.
#include "engine/constrain/constraint_test.h"

namespace vl2 {
namespace {

std::string schema_error(const std::string& schema) {
  return error_of(nano_vocabulary(), ConstraintSpec::json_schema(schema));
}
std::string regex_error(const std::string& pattern) {
  return error_of(nano_vocabulary(), ConstraintSpec::regex(pattern));
}
#define EXPECT_SAYS(message, part) EXPECT_NE(std::string(message).find(part), std::string::npos) << message

std::string nested(const std::string& open, const std::string& inner, const std::string& close, int depth) {
  std::string text = inner;
  for (int i = 0; i < depth; ++i) text = open + text + close;
  return text;
}

TEST(HostileSchema, WhatIsNoSchemaIsRefused) {
  EXPECT_SAYS(schema_error("{"), "not valid JSON");
  EXPECT_SAYS(schema_error("[]"), "#");
  EXPECT_SAYS(schema_error(R"({"type":"thing"})"), "#/type is \"thing\", expected object, array");
  EXPECT_SAYS(schema_error(R"({"properties":{"a/b":{"type":"string","contentEncoding":"base64"}}})"),
              "#/properties/a~1b/contentEncoding is a keyword that is not supported");
  EXPECT_SAYS(schema_error(R"({"oneOf":[{}]})"), "#/oneOf is a keyword");
  EXPECT_SAYS(schema_error(R"({"properties":{"x":{"not":{}}}})"), "#/properties/x/not");
  EXPECT_SAYS(schema_error(R"({"type":"string","format":"color"})"), "#/format is \"color\", expected date");
  EXPECT_SAYS(schema_error(R"x({"type":"string","pattern":"(?=a)"})x"), "#/pattern");
  EXPECT_SAYS(schema_error(R"({"type":"string","pattern":"a","minLength":2})"), "#/pattern stands beside minLength");
  EXPECT_SAYS(schema_error(R"({"enum":["aa"],"minLength":2})"), "#/minLength stands beside #/enum");
  EXPECT_SAYS(schema_error(R"({"type":"number","exclusiveMinimum":true})"), "#/exclusiveMinimum is true");
  EXPECT_SAYS(schema_error(R"({"minItems":-1})"), "#/minItems is -1");
  EXPECT_SAYS(schema_error(R"({"minItems":1e300})"), "#/minItems");
  EXPECT_SAYS(schema_error(R"({"items":[{}]})"), "prefixItems");
  EXPECT_SAYS(schema_error(R"({"$ref":"#/$defs/none"})"), "which is not there");
  EXPECT_SAYS(schema_error(R"({"$ref":"http://example.org/x"})"), "no reference within the schema");
  EXPECT_SAYS(schema_error(R"({"properties":{"a":{}},"required":["b"],"additionalProperties":false})"),
              "\"b\" is required");
  EXPECT_SAYS(schema_error(R"({"anyOf":[{}],"allOf":[{"anyOf":[{}]}]})"), "hold at once");
  EXPECT_SAYS(schema_error(R"({"properties":3})"), "#/properties is 3");
  EXPECT_SAYS(schema_error(R"({"properties":{"a":5}})"), "#/properties/a is 5, expected a schema");
}

TEST(HostileSchema, WhatFitsNothingIsRefused) {
  for (
      const char* schema :
      {"false", R"({"type":"integer","minimum":3,"maximum":2})", R"({"type":"array","items":false,"minItems":1})",
       R"({"allOf":[{"type":"string"},{"type":"null"}]})", R"({"pattern":"[^\\s\\S]"})",
       R"({"$ref":"#/$defs/a","$defs":{"a":{"type":"object","properties":{"x":{"$ref":"#/$defs/a"}},"required":["x"]}}})"})
    EXPECT_SAYS(schema_error(schema), "fits no text") << schema;
}

TEST(HostileSchema, CirclesWithoutProgressAreRefused) {
  EXPECT_SAYS(schema_error(R"({"$ref":"#"})"), "refers to itself");
  EXPECT_SAYS(schema_error(R"({"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}})"),
              "refers to itself");
  EXPECT_SAYS(schema_error(R"({"anyOf":[{"type":"null"},{"$ref":"#"}]})"), "refers to itself");
  EXPECT_SAYS(schema_error(R"({"allOf":[{"$ref":"#"}]})"), "refers to itself");
  EXPECT_SAYS(
      schema_error(R"({"anyOf":[{"anyOf":[{"$ref":"#/anyOf/1"},{"type":"null"}]},{"anyOf":[{"$ref":"#/anyOf/0"}]}]})"),
      "refers to itself");
}

TEST(HostileSchema, SizesAreRefusedWithTheNumbers) {
  EXPECT_SAYS(schema_error("{\"title\":\"" + std::string(1 << 20, 'x') + "\"}"), "expected at most 262144");
  EXPECT_SAYS(schema_error(nested("{\"items\":", "{}", "}", 5000)), "nested more than 100 levels deep");
  EXPECT_SAYS(schema_error(nested("[", "", "]", 100'000)), "nested more than 100 levels deep");
  std::string keys;
  for (int i = 0; i < 2001; ++i) keys += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":{}";
  EXPECT_SAYS(schema_error("{\"properties\":{" + keys + "}}"), "an object of 2001 keys, at most 2000");
  EXPECT_SAYS(schema_error(R"({"type":"string","maxLength":1000000000})"), "1000000000 states, at most 200000");
  EXPECT_SAYS(schema_error(R"({"type":"array","minItems":1000000000})"), "1000000000 states, at most 200000");
  EXPECT_SAYS(schema_error(R"({"pattern":"((a{1000}){1000}){1000}"})"), "at most 200000");
  EXPECT_SAYS(schema_error(nested("{\"type\":\"array\",\"minItems\":1,\"items\":", "{}", "}", 80)),
              "more than 64 levels deep");
}

// 2 ^ depth combinations if they were written out.
TEST(HostileSchema, AlternativesOfAlternativesStayLinearOrAreRefused) {
  std::string defs;
  for (int i = 0; i < 40; ++i) {
    const std::string next = "{\"$ref\":\"#/$defs/d" + std::to_string(i + 1) + "\"}";
    defs += "\"d" + std::to_string(i) + "\":{\"anyOf\":[" + next + "," + next + "]},";
  }
  const std::string doubling = "{\"$ref\":\"#/$defs/d0\",\"$defs\":{" + defs + "\"d40\":{\"type\":\"null\"}}}";
  EXPECT_EQ(schema_error(doubling), "no error");
  // With something beside each, every way through is a schema of its own.
  std::string beside;
  for (int i = 0; i < 40; ++i) {
    const std::string next = "\"$ref\":\"#/$defs/d" + std::to_string(i + 1) + "\"";
    beside += "\"d" + std::to_string(i) + "\":{\"anyOf\":[{\"maximum\":" + std::to_string(i) + "," + next +
              "},{\"minimum\":-" + std::to_string(i) + "," + next + "}]},";
  }
  EXPECT_SAYS(schema_error("{\"$ref\":\"#/$defs/d0\",\"$defs\":{" + beside + "\"d40\":{\"type\":\"integer\"}}}"),
              "merge into more than 100000 schemas");
  std::string wide, parts;
  for (int i = 0; i < 8000; ++i) wide += (i == 0 ? "" : ",") + std::string("{\"type\":\"null\"}");
  for (int i = 0; i < 900; ++i) parts += (i == 0 ? "" : ",") + std::string("{\"minLength\":1}");
  EXPECT_SAYS(schema_error("{\"allOf\":[" + parts + "],\"anyOf\":[" + wide + "]}"),
              "merge into more than 100000 schemas");
}

// Alternatives that stay open all the way down: found out while the answer is written, and said then.
TEST(HostileSchema, WhatStaysAmbiguousEndsTheAnswerWithAnError) {
  const std::string branch =
      R"({"type":"object","properties":{"c":{"$ref":"#"}},"required":["c"],"additionalProperties":false})";
  const auto constraint = nano_vocabulary().compiler.compile(
      ConstraintSpec::json_schema(R"({"anyOf":[{"type":"null"},)" + branch + "," + branch + "," + branch + "]}"));
  ConstraintState state(constraint);
  const auto push = [&](const std::string& text) {
    for (const int32_t id : nano_vocabulary().tokenizer->encode(text)) {
      state.allowed();
      ASSERT_TRUE(state.accept(id));
    }
  };
  try {
    for (int i = 0; i < 30; ++i) push("{\"c\":");
    FAIL() << "3 ^ 30 ways";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_SAYS(error.what(), "too ambiguous");
  }
}

TEST(HostilePattern, WhatIsNotSupportedIsRefusedByPosition) {
  EXPECT_SAYS(regex_error("ab(?=c)"),
              "a group that begins with \"(?\" and is no \"(?:\" is not supported in constraints; rewrite it "
              "without, at byte 3 of \"ab(?=c)\"");
  EXPECT_SAYS(regex_error("a\\b"), "\"\\b\" is not supported");
  EXPECT_SAYS(regex_error("(a)\\1"), "\"\\1\" is not supported");
  EXPECT_SAYS(regex_error("\\p{L}"), "\"\\p\"");
  EXPECT_SAYS(regex_error("a$b"), "\"$\" before the end");
  EXPECT_SAYS(regex_error("a^b"), "\"^\" behind the beginning");
  EXPECT_SAYS(regex_error("(a|^b)"), "\"^\" within a group");
  EXPECT_SAYS(regex_error("a++"), "possessive");
  EXPECT_SAYS(regex_error("a**"), "a quantifier of a quantifier at byte 2");
  EXPECT_SAYS(regex_error("*a"), "a quantifier of nothing at byte 0");
  EXPECT_SAYS(regex_error("(a"), "never closed");
  EXPECT_SAYS(regex_error("a)"), "an unmatched ')' at byte 1");
  EXPECT_SAYS(regex_error("[a"), "a class that is never closed");
  EXPECT_SAYS(regex_error("[z-a]"), "a range whose end is before its beginning");
  EXPECT_SAYS(regex_error("[[:alpha:]]"), "POSIX class");
  EXPECT_SAYS(regex_error("a{2"), "a '{' that is no");
  EXPECT_SAYS(regex_error("a{3,2}"), "end is below its beginning");
  EXPECT_SAYS(regex_error("\\ud800"), "surrogate");
  EXPECT_SAYS(regex_error("\\"), "a backslash at the end");
  EXPECT_SAYS(regex_error("\xff"), "not UTF-8");
}

TEST(HostilePattern, SizesAreRefusedWithTheNumbers) {
  EXPECT_SAYS(regex_error("a{1000000}"), "more than 100000");
  EXPECT_SAYS(regex_error("(a{1000}){1000}"), "at most 200000");
  EXPECT_SAYS(regex_error(".{100000}"), "at most 200000");
  EXPECT_SAYS(regex_error(nested("(", "a", ")", 100)), "more than 64 deep");
  EXPECT_SAYS(regex_error(nested("(", "a", "){100}", 60)), "at most 200000");
  EXPECT_SAYS(regex_error(std::string(20'000, 'a')), "20000 bytes, at most 16384");
  EXPECT_EQ(regex_error(nested("(?:", "a", ")*", 60)), "no error");
}

// Exponential for engines that try one way after the other.
TEST(HostilePattern, TheTimeOfAMatchIsLinear) {
  std::string many;
  for (int i = 0; i < 5000; ++i) many += 'a';
  for (const char* pattern : {"(a*)*b", "(a|a)*b", "(a|aa)+b", "(a?){50}a{50,}b"}) {
    EXPECT_TRUE(fits(toy_vocabulary(), ConstraintSpec::regex(pattern), many + "b")) << pattern;
    EXPECT_FALSE(fits(toy_vocabulary(), ConstraintSpec::regex(pattern), many)) << pattern;
  }
  const std::string wide = regex_error("(.{0,300}x){1,300}y");
  EXPECT_TRUE(wide == "no error" || wide.find("too ") != std::string::npos) << wide;
}

}  // namespace
}  // namespace vl2

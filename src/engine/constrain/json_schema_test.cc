#include "engine/constrain/json_schema.h"

#include "engine/constrain/constraint_test.h"

namespace vl2 {
namespace {

using nlohmann::json;

bool allows(const std::string& schema, const std::string& text) {
  return fits(toy_vocabulary(), ConstraintSpec::json_schema(schema), text);
}
std::string refusal(const std::string& schema) {
  return error_of(toy_vocabulary(), ConstraintSpec::json_schema(schema));
}

TEST(JsonSchema, PropertiesComeInTheSchemasOrderAndOnlyRequiredOnesMust) {
  const std::string schema = R"({"type":"object","properties":{"z":{"type":"integer"},"a":{"type":"boolean"},
      "m":{"type":"null"}},"required":["a"],"additionalProperties":false})";
  EXPECT_TRUE(allows(schema, R"({"a": true})"));
  EXPECT_TRUE(allows(schema, R"({"z":1,"a":false,"m":null})"));
  EXPECT_TRUE(allows(schema, "{\n  \"z\": 1,\n  \"a\": false\n}"));
  EXPECT_TRUE(allows(schema, R"({"a": true, "m": null})"));
  EXPECT_FALSE(allows(schema, R"({"z":1})"));
  EXPECT_FALSE(allows(schema, R"({"a":true,"z":1})"));
  EXPECT_FALSE(allows(schema, R"({"a":true,"other":1})"));
  EXPECT_FALSE(allows(schema, R"({})"));
  EXPECT_FALSE(allows(schema, R"({"a":true,})"));
  EXPECT_FALSE(allows(schema, R"({,"a":true})"));
}

TEST(JsonSchema, FurtherPropertiesAreThereWhereTheSchemaSaysSo) {
  const std::string schema =
      R"({"type":"object","properties":{"ab":{"type":"integer"}},"additionalProperties":{"type":"boolean"}})";
  EXPECT_TRUE(allows(schema, R"({"ab":1,"a":true,"abc":false,"":true})"));
  EXPECT_TRUE(allows(schema, R"({"x":true})"));
  EXPECT_FALSE(allows(schema, R"({"x":1})"));
  EXPECT_FALSE(allows(schema, R"({"x":true,"ab":true})")) << "a listed key among the further ones";
  EXPECT_FALSE(allows(R"({"type":"object","properties":{"a":{}}})", R"({"a":1,"b":1})")) << "listed, and nothing said";
  EXPECT_TRUE(allows(R"({"type":"object"})", R"({"any": [1, {"x": null}]})"));
  EXPECT_TRUE(allows(R"({"type":"object","required":["q"]})", R"({"q":[]})"));
  EXPECT_FALSE(allows(R"({"type":"object","required":["q"]})", R"({})"));
}

TEST(JsonSchema, IntegersAreExactAtBothBounds) {
  const auto inside = [](const std::string& bounds, int64_t low, int64_t high, int64_t from, int64_t to) {
    const auto schema = R"({"type":"integer",)" + bounds + "}";
    for (int64_t n = from; n <= to; ++n)
      ASSERT_EQ(allows(schema, std::to_string(n)), n >= low && n <= high) << bounds << ": " << n;
  };
  inside(R"("minimum":-12,"maximum":105)", -12, 105, -130, 1100);
  inside(R"("minimum":7)", 7, INT64_MAX, -20, 120);
  inside(R"("exclusiveMinimum":-3,"exclusiveMaximum":3)", -2, 2, -40, 40);
  inside(R"("minimum":0.5,"maximum":9.5)", 1, 9, -3, 100);
  inside(R"("minimum":99,"maximum":1001)", 99, 1001, 0, 1200);
  const std::string wide = R"({"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807})";
  EXPECT_TRUE(allows(wide, "9223372036854775807"));
  EXPECT_FALSE(allows(wide, "9223372036854775808"));
  EXPECT_TRUE(allows(wide, "-9223372036854775808"));
  EXPECT_FALSE(allows(wide, "-9223372036854775809"));
  for (const char* text : {"007", "-0", "1.0", "+1", "", "1e3"})
    EXPECT_FALSE(allows(R"({"type":"integer"})", text)) << text;
}

TEST(JsonSchema, NumbersWithBoundsAreExactInDecimals) {
  const std::string unit = R"({"type":"number","minimum":0,"maximum":1})";
  for (const char* text : {"0", "1", "0.5", "0.999999", "1.0", "0.0", "1.000000"})
    EXPECT_TRUE(allows(unit, text)) << text;
  for (const char* text : {"1.000001", "-0.1", "2", "1e0", "0.", "00.5", ".5", "-0"})
    EXPECT_FALSE(allows(unit, text)) << text;
  const std::string open = R"({"type":"number","exclusiveMinimum":-2.5,"exclusiveMaximum":0.125})";
  for (const char* text : {"-2.499999", "0.124999", "-1", "0"}) EXPECT_TRUE(allows(open, text)) << text;
  for (const char* text : {"-2.5", "-2.50", "0.125", "0.1250", "-3", "1"}) EXPECT_FALSE(allows(open, text)) << text;
  EXPECT_TRUE(allows(R"({"type":"number","minimum":0})", "123456789012345"));
  EXPECT_TRUE(allows(R"({"type":"number","maximum":-0.5})", "-123456789012345"));
  EXPECT_FALSE(allows(R"({"type":"number","maximum":-0.5})", "-0.4"));
  EXPECT_NE(refusal(R"({"type":"number","minimum":0.12345678901})").find("bounds of numbers are exact up to 15 digits"),
            std::string::npos);
  for (const char* text : {"-12.5e-3", "0", "3E+4", "0.1"}) EXPECT_TRUE(allows(R"({"type":"number"})", text)) << text;
  for (const char* text : {"1e999", "01", "1.", "--1", "1e"})
    EXPECT_FALSE(allows(R"({"type":"number"})", text)) << text;
}

TEST(JsonSchema, StringsCountCharactersAndEscapesOnce) {
  const std::string two = R"({"type":"string","minLength":2,"maxLength":2})";
  for (const char* text : {R"("ab")", R"("é€")", R"("\n\"")", R"("\u00e9a")", R"("\ud83d\ude00x")", "\"😀😀\""})
    EXPECT_TRUE(allows(two, text)) << text;
  for (const char* text : {R"("a")", R"("abc")", R"("\n")", "\"😀\"", R"("")"}) EXPECT_FALSE(allows(two, text)) << text;
  const std::string any = R"({"type":"string"})";
  for (const char* text :
       {R"("\ud83d")", R"("\ude00")", R"("\x")", "\"\n\"", "\"\xc3\"", "\"\xff\"", "\"\xed\xa0\x80\"", "\"a"})
    EXPECT_FALSE(allows(any, text)) << text;
  EXPECT_NE(refusal(R"({"type":"string","minLength":3,"maxLength":2})").find("fits no text"), std::string::npos);
}

TEST(JsonSchema, PatternsMatchAnywhereUnlessAnchored) {
  EXPECT_TRUE(allows(R"({"pattern":"^[A-Z]{2}-[0-9]+$"})", R"("AB-12")"));
  EXPECT_FALSE(allows(R"({"pattern":"^[A-Z]{2}-[0-9]+$"})", R"("xAB-12")"));
  EXPECT_TRUE(allows(R"({"pattern":"b+"})", R"("abba")"));
  EXPECT_FALSE(allows(R"({"pattern":"b+"})", R"("aca")"));
  EXPECT_TRUE(allows(R"({"pattern":"^a|z$"})", R"("ab")"));
  EXPECT_TRUE(allows(R"({"pattern":"^a|z$"})", R"("bz")"));
  EXPECT_FALSE(allows(R"({"pattern":"^a|z$"})", R"("ba")"));
  EXPECT_TRUE(allows(R"({"pattern":"^\"\\\\$"})", R"("\"\\")")) << "what needs an escape gets one";
  EXPECT_TRUE(allows(R"({"format":"date"})", R"("2024-02-29")"));
  EXPECT_FALSE(allows(R"({"format":"date"})", R"("2023-02-29")"));
  EXPECT_FALSE(allows(R"({"format":"date"})", R"("2023-04-31")"));
  EXPECT_TRUE(allows(R"({"format":"date-time"})", R"("1999-12-31T23:59:59.5+01:00")"));
  EXPECT_TRUE(allows(R"({"format":"uuid"})", R"("123e4567-e89b-12d3-a456-426614174000")"));
  EXPECT_TRUE(allows(R"({"format":"email"})", R"("a.b@example.org")"));
  EXPECT_FALSE(allows(R"({"format":"ipv4"})", R"("256.1.1.1")"));
  EXPECT_TRUE(allows(R"({"format":"uri"})", R"("https://example.org/a?b=c#d")"));
  EXPECT_TRUE(allows(R"({"format":"duration"})", R"("P1Y2M3DT4H5M6S")"));
}

TEST(JsonSchema, ArraysCountTheirItems) {
  const std::string box = R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3})";
  EXPECT_TRUE(allows(box, "[1, 2]"));
  EXPECT_TRUE(allows(box, "[1,2,3]"));
  EXPECT_TRUE(allows(box, "[\n  1,\n  2\n]"));
  for (const char* text : {"[]", "[1]", "[1,2,3,4]", "[1,2,]", "[1 2]", "[,1]"})
    EXPECT_FALSE(allows(box, text)) << text;
  EXPECT_TRUE(allows(R"({"type":"array","items":{"type":"null"}})", "[]"));
  const std::string pair =
      R"({"type":"array","prefixItems":[{"type":"null"},{"type":"boolean"}],"items":false,"minItems":2})";
  EXPECT_TRUE(allows(pair, "[null, true]"));
  for (const char* text : {"[null]", "[true, null]", "[null, true, 1]"}) EXPECT_FALSE(allows(pair, text)) << text;
  EXPECT_TRUE(allows(R"({"prefixItems":[{"type":"null"}],"items":{"type":"integer"}})", "[null, 1, 2]"));
  EXPECT_FALSE(allows(R"({"type":"array","maxItems":0})", "[1]"));
}

TEST(JsonSchema, ReferencesAlternativesAndMergesMeanWhatTheySay) {
  const std::string tree = R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},
      "l":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","l"],"additionalProperties":false}}})";
  EXPECT_TRUE(allows(tree, R"({"v":1,"l":{"v":2,"l":null}})"));
  EXPECT_FALSE(allows(tree, R"({"v":1,"l":{"v":2}})"));
  const std::string merged = R"({"allOf":[{"type":"object","properties":{"a":{"minimum":1}},"required":["a"]},
      {"properties":{"a":{"type":"integer","maximum":3},"b":{"type":"null"}}}]})";
  EXPECT_TRUE(allows(merged, R"({"a":3,"b":null})"));
  EXPECT_FALSE(allows(merged, R"({"a":4})"));
  EXPECT_FALSE(allows(merged, R"({"a":0})"));
  EXPECT_FALSE(allows(merged, R"({"b":null})"));
  EXPECT_FALSE(allows(R"({"type":"string","anyOf":[{"minLength":2},{"maxLength":0}]})", R"("a")"));
  EXPECT_TRUE(allows(R"({"type":"string","anyOf":[{"minLength":2},{"maxLength":0}]})", R"("")"));
  EXPECT_TRUE(allows(R"({"type":["string","null"]})", "null"));
  EXPECT_TRUE(allows(R"({"enum":["a", 1, {"x": [true]}]})", R"({"x":[true]})"));
  EXPECT_FALSE(allows(R"({"enum":["a", 1],"type":"integer"})", R"("a")"));
  EXPECT_TRUE(allows(R"(true)", R"({"x":[null,-1.5e3,"é"]})"));
  EXPECT_EQ(refusal(R"({"type":"integer","allOf":[{"type":"string"}]})").find("no error"), std::string::npos);
}

}  // namespace
}  // namespace vl2

#include "core/base/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace vl2 {
namespace {

std::string error_of(std::string_view text) {
  try {
    parse_json(text, "f.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
    return error.what();
  }
  return "";
}

TEST(Json, RefusesDuplicateKeysAtAnyLevelButNotAcrossObjects) {
  EXPECT_NE(error_of(R"({"a":1,"a":2})").find("\"a\" appears twice"), std::string::npos);
  EXPECT_NE(error_of(R"({"a":[{"b":1,"c":{},"b":2}]})").find("\"b\" appears twice"), std::string::npos);
  EXPECT_EQ(error_of(R"({"a":{"a":1},"b":[{"a":1},{"a":2}]})"), "");
}

TEST(Json, RefusesDeepNestingLargeTextAndBrokenText) {
  const std::string deep(100000, '[');
  EXPECT_NE(error_of(deep).find("levels deep"), std::string::npos);
  EXPECT_EQ(error_of(std::string(32, '[') + std::string(32, ']')), "");
  EXPECT_THROW(parse_json("[1, 2, 3]", "f", {.max_bytes = 4}), Error);
  for (const char* bad : {"", "{", "{\"a\":}", "nul", "[1,]", "{} x", "{\"a\":1e999}", "\"\xff\"", "// c\n{}"})
    EXPECT_NE(error_of(bad), "") << bad;
}

TEST(JsonObject, NamesTheKeyTheValueAndTheExpectation) {
  const nlohmann::json value = parse_json(R"({"n":-3,"x":1.5,"s":"y","huge":18446744073709551615,"z":null})", "f.json");
  const JsonObject object(value, "f.json", "outer");
  EXPECT_EQ(object.integer("n", 0, -5, 5), -3);
  EXPECT_EQ(object.integer("missing", 7, 8, 9), 7);
  EXPECT_EQ(object.number("x", 0, 0, 2), 1.5);
  EXPECT_EQ(object.string("s", ""), "y");
  EXPECT_EQ(object.optional_integer("z", 4, 0, 9), std::nullopt);
  EXPECT_EQ(object.optional_integer("missing", 4, 0, 9), 4);
  EXPECT_THROW(object.integer("x", 0, 0, 9), Error);
  EXPECT_THROW(object.integer("huge", 0, -9, 9), Error);
  EXPECT_THROW(object.integer("z", 0, 0, 9), Error);
  EXPECT_THROW(object.boolean("s", false), Error);
  EXPECT_THROW(object.string("n", ""), Error);
  EXPECT_THROW(object.number("s", 0, 0, 1), Error);
  EXPECT_THROW(JsonObject(value.at("s"), "f.json"), Error);
  try {
    object.integer("n", 0, 1, 5);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "f.json: outer.n is -3, expected an integer from 1 to 5");
  }
}

TEST(JsonObject, DescribesHostileValuesBriefly) {
  EXPECT_LE(describe_json(nlohmann::json(std::string(100000, 'x'))).size(), 90u);
  EXPECT_LE(describe_json(nlohmann::json(std::vector<int>(100000, 1))).size(), 90u);
  EXPECT_EQ(describe_json(nlohmann::json("a\xff\n")), R"("a\ufffd\n")");
}

}  // namespace
}  // namespace vl2

#include "core/text/regex.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/base/error.h"

namespace vl2 {
namespace {

constexpr const char* kV3Pattern =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

std::vector<std::string> matches(const std::string& pattern, const std::string& text, bool use_jit = true) {
  const Regex regex(pattern, "test", use_jit);
  RegexScratch scratch;
  std::vector<Span> spans;
  regex.find_all(text, scratch, spans);
  std::vector<std::string> found;
  for (const Span& s : spans) found.push_back(text.substr(s.begin, s.end - s.begin));
  return found;
}

ErrorCode code_of(const std::string& pattern) {
  try {
    Regex(pattern, "the file: step 3");
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("the file: step 3"), std::string::npos) << error.what();
    return error.code();
  }
  ADD_FAILURE() << pattern << " was accepted";
  return ErrorCode::kInternal;
}

using Found = std::vector<std::string>;

TEST(Regex, WhitespaceIsUnicodesWhiteSpaceAndNothingElse) {
  for (const char* space : {"\t", "\v", " ", "\xC2\x85", "\xC2\xA0", "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x8A",
                            "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"}) {
    EXPECT_EQ(matches("\\s", space), Found{space});
    EXPECT_EQ(matches("[\\s]", space), Found{space});
    EXPECT_EQ(matches("\\S", space), Found{});
    EXPECT_EQ(matches("[\\S]", space), Found{});
    EXPECT_EQ(matches("[^\\s]", space), Found{});
  }
  for (const char* other :
       {"a", "\x1C", "\xE1\xA0\x8E" /* U+180E */, "\xE2\x80\x8B", "\xEF\xBB\xBF", "\xF0\x9F\x98\x80"}) {
    EXPECT_EQ(matches("\\s", other), Found{}) << other;
    EXPECT_EQ(matches("\\S", other), Found{other});
    EXPECT_EQ(matches("[\\S]", other), Found{other});
    EXPECT_EQ(matches("[^\\s]", other), Found{other});
  }
}

TEST(Regex, DollarIsTheEndOfTheSubjectOnly) {
  EXPECT_EQ(matches("a$", "a\n"), Found{});
  EXPECT_EQ(matches("a$", "a\na"), Found{"a"});
  EXPECT_EQ(matches("\\s+$", "x  \n y \n"), Found{" \n"});
  EXPECT_EQ(matches("\\s+$", "  "), Found{"  "});
  EXPECT_EQ(matches("\\s+$", "  x"), Found{});
}

TEST(Regex, CategoriesAndClassesAreUnicode) {
  EXPECT_EQ(matches("\\p{N}{1,3}", "1234\xD9\xA3\xE2\x91\xA0"), (Found{"123", "4\xD9\xA3\xE2\x91\xA0"}));
  EXPECT_EQ(matches("[\xE4\xB8\x80-\xE9\xBE\xA5]+", "ab\xE4\xBD\xA0\xE5\xA5\xBDz"), Found{"\xE4\xBD\xA0\xE5\xA5\xBD"});
  EXPECT_EQ(matches("(?i:'S)", "it's IT'S"), (Found{"'s", "'S"}));
  EXPECT_EQ(matches("\\u4f60|\\x{597d}", "\xE4\xBD\xA0\xE5\xA5\xBD"), (Found{"\xE4\xBD\xA0", "\xE5\xA5\xBD"}));
}

TEST(Regex, AnEmptyMatchBesideAnotherMatchDoesNotCount) {
  EXPECT_EQ(matches("x*", "axxb"), (Found{"", "xx", ""}));
  EXPECT_EQ(matches("x*", ""), Found{""});
}

TEST(Regex, WhatEnginesReadDifferentlyIsRefused) {
  for (const char* pattern : {"\\w", "\\bx", "[\\w]", "\\h", "\\Z", "\\K", "[[:alpha:]]", "[a&&b]", "(*UTF)x", "(?R)",
                              "(?m)x", "(?<name>x)", "a{,3}", "a{1,2}+", "[]a]", "\\xff", "\\u12", "\\1"})
    EXPECT_EQ(code_of(pattern), ErrorCode::kUnsupported) << pattern;
}

TEST(Regex, BrokenPatternsAreNamed) {
  for (const char* pattern : {"(", ")", "[a", "a\\", "*", "\\p{Nonsense}", "\xFF", "[z-a]", "x{5,2}"})
    EXPECT_EQ(code_of(pattern), ErrorCode::kCorrupt) << pattern;
  EXPECT_EQ(code_of(std::string(1000, '(') + std::string(1000, ')')), ErrorCode::kCorrupt);  // nested too deep
  EXPECT_EQ(code_of(std::string(1 << 20, 'a')), ErrorCode::kUnsupported);
}

TEST(Regex, JitAndInterpreterAgree) {
  const std::string text = "Don't  stop\r\n\n  at 123\xE3\x80\x80\xE4\xBD\xA0\xF0\x9F\x98\x80 !?\n\n \t x_y  ";
  for (const char* pattern : {kV3Pattern, "\\p{N}{1,3}", "\\s+$", "\\s?[A-Za-z]+"})
    EXPECT_EQ(matches(pattern, text, true), matches(pattern, text, false)) << pattern;
}

// The patterns of both tokenizer families over long runs; a quadratic search would take minutes to days here.
TEST(Regex, LongRunsTakeLinearTime) {
  constexpr size_t kLong = 1'000'000;
  const std::string spaces(kLong, ' ');
  for (const bool use_jit : {true, false}) {
    EXPECT_EQ(matches(kV3Pattern, spaces, use_jit).size(), 1u);
    EXPECT_EQ(matches(kV3Pattern, spaces + "x", use_jit).size(), 2u);
    EXPECT_EQ(matches(kV3Pattern, std::string(kLong, 'a'), use_jit).size(), 1u);
    EXPECT_EQ(matches(kV3Pattern, std::string(kLong, '!'), use_jit).size(), 1u);
    EXPECT_EQ(matches(kV3Pattern, std::string(kLong, '\n'), use_jit).size(), 1u);
    EXPECT_EQ(matches(kV3Pattern, std::string(kLong, '\x01'), use_jit).size(), 0u);
    EXPECT_EQ(matches("\\p{N}{1,3}", std::string(kLong, '7'), use_jit).size(), kLong / 3 + 1);
    EXPECT_EQ(matches("\\s+$", spaces + "5", use_jit).size(), 0u);
    EXPECT_EQ(matches("\\s+$", spaces, use_jit).size(), 1u);
    EXPECT_EQ(matches("\\s?[A-Za-z]+", spaces + "5", use_jit).size(), 0u);
  }
}

TEST(Regex, RunawayBacktrackingIsAnErrorNotAHang) {
  const std::string text = std::string(40, 'a') + "b";
  for (const bool use_jit : {true, false}) {
    try {
      matches("(?:a+)+$", text, use_jit);
      FAIL() << "no limit was met";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    }
  }
}

TEST(Regex, GroupsOverLongTextsDoNotOverflowAStack) {
  const std::string text(300'000, 'a');
  EXPECT_EQ(matches("(?:a|b)+", text).size(), 1u);
}

}  // namespace
}  // namespace vl2

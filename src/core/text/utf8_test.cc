#include "core/text/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/text/byte_level.h"

namespace vl2 {
namespace {

const std::string kBad = "\xEF\xBF\xBD";

TEST(Utf8, RepairReplacesEachMaximalInvalidPart) {
  EXPECT_EQ(repair_utf8("plain \xE4\xBD\xA0\xF0\x9F\x98\x80"), "plain \xE4\xBD\xA0\xF0\x9F\x98\x80");
  EXPECT_EQ(repair_utf8("a\xFFz"), "a" + kBad + "z");
  EXPECT_EQ(repair_utf8("\x80\x80"), kBad + kBad);  // lone continuations, one each
  EXPECT_EQ(repair_utf8("\xE4\xBD"), kBad);         // truncated: one for what is there
  EXPECT_EQ(repair_utf8("\xE4\xBDx"), kBad + "x");
  EXPECT_EQ(repair_utf8("\xF0\x9F\x98\xE4\xBD\xA0"), kBad + "\xE4\xBD\xA0");
  EXPECT_EQ(repair_utf8("\xC0\xAF"), kBad + kBad);                        // overlong
  EXPECT_EQ(repair_utf8("\xE0\x80\xAF"), kBad + kBad + kBad);             // overlong
  EXPECT_EQ(repair_utf8("\xED\xA0\x80"), kBad + kBad + kBad);             // a surrogate
  EXPECT_EQ(repair_utf8("\xF4\x90\x80\x80"), kBad + kBad + kBad + kBad);  // above U+10FFFF
  EXPECT_EQ(repair_utf8(std::string("\0", 1)), std::string("\0", 1));
}

TEST(Utf8, RepairOfAStreamDoesNotDependOnHowItIsCut) {
  Random random(7);
  const std::vector<std::string> parts = {"a",    "\xC3", "\xA9", "\xE4", "\xBD", "\xA0", "\xF0", "\x9F", "\x98",
                                          "\x80", "\xFF", "\xED", "\xA0", "\xF4", "\x8F", "\xBF", " "};
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (int64_t i = random.below(24); i >= 0; --i)
      bytes += parts[static_cast<size_t>(random.below(static_cast<int64_t>(parts.size())))];
    const std::string whole = repair_utf8(bytes);
    EXPECT_TRUE(is_valid_utf8(whole));
    if (is_valid_utf8(bytes)) {
      EXPECT_EQ(whole, bytes);
    }
    Utf8Repair repair;
    std::string joined;
    for (size_t at = 0; at < bytes.size();) {
      const auto size = static_cast<size_t>(random.below(4));
      std::string out;
      repair.append(std::string_view(bytes).substr(at, size), out);
      EXPECT_TRUE(is_valid_utf8(out));  // never half a character
      joined += out;
      at += size;
    }
    repair.finish(joined);
    EXPECT_EQ(joined, whole);
  }
}

TEST(Utf8, StripTakesWhatPythonTakes) {
  EXPECT_EQ(python_strip("  \n padded \n\n"), "padded");
  EXPECT_EQ(python_strip(" \t\r\n\v\f\x1c\x1d\x1e\x1f x \xC2\x85\xC2\xA0"), "x");
  EXPECT_EQ(python_strip("\xE3\x80\x80\xE2\x80\x83 \xE4\xBD\xA0\xE5\xA5\xBD\xE2\x80\xA8\xE1\x9A\x80"),
            "\xE4\xBD\xA0\xE5\xA5\xBD");
  EXPECT_EQ(python_strip("\xE2\x80\x8Bzero width stays\xE2\x80\x8B"), "\xE2\x80\x8Bzero width stays\xE2\x80\x8B");
  EXPECT_EQ(python_strip(" \n "), "");
  EXPECT_EQ(python_strip(""), "");
  EXPECT_EQ(python_strip(" \x80 "), "\x80");
  EXPECT_EQ(python_strip(" \xE3\x80 "), "\xE3\x80");
  EXPECT_EQ(python_lstrip(" a "), "a ");
  EXPECT_EQ(python_rstrip(" a "), " a");
}

TEST(Utf8, CodePointsRoundTrip) {
  for (const char32_t c : {U'\0', U'a', U'\x7F', U'\x80', U'\x7FF', U'\x800', U'\xFFFD', U'\x10000', U'\x10FFFF'}) {
    std::string text;
    append_utf8(c, text);
    EXPECT_EQ(utf8_code_point(text, 0), c);
    EXPECT_EQ(utf8_length(text, 0), text.size());
    EXPECT_TRUE(is_valid_utf8(text));
  }
}

TEST(ByteLevel, EveryByteHasOnePrintableCharacter) {
  EXPECT_EQ(byte_level_spelling(" the\n"), "\xC4\xA0the\xC4\x8A");
  for (int b = 0; b < 256; ++b) {
    const std::string byte(1, static_cast<char>(b));
    EXPECT_EQ(byte_level_bytes(byte_level_spelling(byte)), byte);
  }
  EXPECT_EQ(byte_level_character(0), U'\x100');
  EXPECT_EQ(byte_level_character(0xAD), U'\x143');
  EXPECT_FALSE(byte_level_bytes("a b").has_value());
  EXPECT_FALSE(byte_level_bytes("\xE4\xBD\xA0").has_value());
}

}  // namespace
}  // namespace vl2

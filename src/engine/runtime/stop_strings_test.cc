#include "engine/runtime/stop_strings.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace vl2 {
namespace {

struct Outcome {
  std::string text;
  std::optional<std::string> matched;
  bool operator==(const Outcome&) const = default;
};

// Feeds `text` in pieces of `size` bytes.
Outcome feed(const std::vector<std::string>& stop, const std::string& text, size_t size) {
  StopStrings strings(stop);
  Outcome outcome;
  for (size_t i = 0; i < text.size(); i += size) outcome.text += strings.push(text.substr(i, size));
  outcome.text += strings.finish();
  outcome.matched = strings.matched();
  return outcome;
}

TEST(StopStrings, TheTextEndsBeforeTheStopStringWhateverThePieces) {
  const std::string text = "one two STOP three";
  for (size_t size = 1; size <= text.size(); ++size)
    EXPECT_EQ(feed({"STOP"}, text, size), (Outcome{"one two ", "STOP"})) << size;
}

TEST(StopStrings, TheOneThatIsCompleteFirstWins) {
  for (size_t size = 1; size <= 8; ++size) {
    EXPECT_EQ(feed({"abcdef", "cd"}, "xabcdefx", size), (Outcome{"xab", "cd"})) << size;
    EXPECT_EQ(feed({"bc", "abc"}, "xabcx", size), (Outcome{"x", "abc"})) << size;
    EXPECT_EQ(feed({"abc", "bc"}, "xabcx", size), (Outcome{"x", "abc"})) << size;
  }
}

TEST(StopStrings, HoldsBackExactlyWhatCouldStillBecomeOne) {
  StopStrings strings({"\n\nUser", "###"});
  EXPECT_EQ(strings.push("hello"), "hello");
  EXPECT_EQ(strings.push("\n"), "");
  EXPECT_EQ(strings.push("\nUs"), "");
  EXPECT_EQ(strings.push("a#"), "\n\nUsa");
  EXPECT_EQ(strings.push("##"), "");
  EXPECT_EQ(strings.matched(), "###");
  EXPECT_EQ(strings.push("more"), "");
  EXPECT_EQ(strings.finish(), "");
}

TEST(StopStrings, AFalseStartInsideItselfIsNotLost) {
  for (size_t size = 1; size <= 6; ++size) EXPECT_EQ(feed({"aab"}, "aaab!", size), (Outcome{"a", "aab"})) << size;
}

TEST(StopStrings, WithoutAMatchTheWholeTextComesOut) {
  for (size_t size = 1; size <= 7; ++size) {
    EXPECT_EQ(feed({"###", "\n\n"}, "a#b##c\n", size), (Outcome{"a#b##c\n", std::nullopt})) << size;
    EXPECT_EQ(feed({}, "anything", size), (Outcome{"anything", std::nullopt})) << size;
  }
}

TEST(StopStrings, UnusableOnesAreRefused) {
  EXPECT_THROW(StopStrings({""}), Error);
  EXPECT_THROW(StopStrings({std::string(1025, 'x')}), Error);
  EXPECT_THROW(StopStrings({"\xe4\xbd"}), Error);
  EXPECT_THROW(StopStrings(std::vector<std::string>(65, "x")), Error);
  EXPECT_NO_THROW(StopStrings({"\xe4\xbd\xa0", "\xf0\x9f\x98\x80"}));
}

}  // namespace
}  // namespace vl2

#include "apps/cli/conversation.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace vl2::cli {
namespace {

Image picture(int64_t width) { return make_image(width, 1, 0, 0, 0); }

std::vector<std::string> contents(const Conversation& conversation) {
  std::vector<std::string> result;
  for (const Message& m : conversation.messages()) result.push_back(m.role + ": " + m.content);
  return result;
}
using Lines = std::vector<std::string>;

TEST(Conversation, TurnsFollowTheSystemText) {
  Conversation c;
  c.set_system("Be brief.");
  c.ask("one");
  c.answer("1");
  c.ask("two");
  EXPECT_EQ(contents(c), (Lines{"system: Be brief.", "user: one", "assistant: 1", "user: two", "assistant: "}));
}

TEST(Conversation, AttachedPicturesGetPlaceholdersInTheNextMessageOnly) {
  Conversation c;
  c.attach(picture(1));
  c.attach(picture(2));
  EXPECT_EQ(c.num_attached(), 2);
  c.ask("second: <image>");
  EXPECT_EQ(c.num_attached(), 0);
  c.answer("ok");
  c.ask("and now?");
  EXPECT_EQ(contents(c), (Lines{"user: <image>\nsecond: <image>", "assistant: ok", "user: and now?", "assistant: "}));
  EXPECT_EQ(c.pictures().size(), 2);
}

TEST(Conversation, APlaceholderWithoutAPictureChangesNothing) {
  Conversation c;
  c.attach(picture(1));
  EXPECT_THROW(c.ask("<image><image>"), Error);
  EXPECT_TRUE(c.empty());
  EXPECT_EQ(c.num_attached(), 1);
}

TEST(Conversation, AQuestionTakenBackHasItsPicturesAttachedAgain) {
  Conversation c;
  c.attach(picture(1));
  c.ask("first");
  c.answer("a");
  c.attach(picture(2));
  c.ask("second");
  c.answer("b");
  c.attach(picture(3));
  EXPECT_EQ(c.take_back(), "second");
  EXPECT_EQ(c.num_attached(), 2);
  c.ask("second again");
  EXPECT_EQ(contents(c).at(2), "user: <image>\n<image>\nsecond again");
  EXPECT_EQ(c.pictures().at(1).width, 2);
  c.clear();
  EXPECT_EQ(c.take_back(), "");
}

TEST(Conversation, ForgottenTurnsTakeTheirPicturesAlong) {
  Conversation c;
  for (int64_t i = 1; i <= 3; ++i) {
    c.attach(picture(i));
    c.ask("question " + std::to_string(i));
    c.answer("a");
  }
  c.forget(2, 2);
  EXPECT_EQ(contents(c), (Lines{"user: <image>\nquestion 3", "assistant: a"}));
  ASSERT_EQ(c.pictures().size(), 1);
  EXPECT_EQ(c.pictures()[0].width, 3);
  c.take_back();
  EXPECT_EQ(c.num_attached(), 1);
}

TEST(Conversation, AnAnswerCannotSmuggleInAPlaceholder) {
  Conversation c;
  c.ask("q");
  c.answer("a <ima<image>ge> b");
  EXPECT_EQ(contents(c).at(1).find("<image>"), std::string::npos);
}

}  // namespace
}  // namespace vl2::cli

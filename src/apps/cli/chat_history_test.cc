#include "apps/cli/chat_history.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/temp_folder.h"

namespace vl2::cli {
namespace {

using Lines = std::vector<std::string>;

TEST(ChatHistory, LinesComeBackInTheNextChat) {
  const TempFolder temp;
  {
    ChatHistory history(temp / "new/folder/history");
    EXPECT_TRUE(history.entries().empty());
    EXPECT_TRUE(history.add("one"));
    EXPECT_TRUE(history.add("two\nlines, \"quotes\" and 汉字"));
  }
  EXPECT_EQ(ChatHistory(temp / "new/folder/history").entries(), (Lines{"one", "two\nlines, \"quotes\" and 汉字"}));
}

TEST(ChatHistory, ARepeatedLineIsKeptOnce) {
  const TempFolder temp;
  ChatHistory history(temp / "history");
  for (const char* line : {"a", "a", "b", "a", ""}) history.add(line);
  EXPECT_EQ(ChatHistory(temp / "history").entries(), (Lines{"a", "b", "a"}));
}

TEST(ChatHistory, TwoChatsAtATimeKeepEachOthersLines) {
  const TempFolder temp;
  ChatHistory one(temp / "history"), other(temp / "history");
  one.add("from one");
  other.add("from the other");
  one.add("again one");
  EXPECT_EQ(ChatHistory(temp / "history").entries(), (Lines{"from one", "from the other", "again one"}));
}

TEST(ChatHistory, OnlyTheNewestLinesAreKept) {
  const TempFolder temp;
  std::string text;
  for (size_t i = 0; i < ChatHistory::kMostEntries + 5; ++i) text += fmt::format("\"{}\"\n", i);
  write_file_atomic(temp / "history", text);
  ChatHistory(temp / "history").add("new");
  const Lines entries = ChatHistory(temp / "history").entries();
  ASSERT_EQ(entries.size(), ChatHistory::kMostEntries);
  EXPECT_EQ(entries.back(), "new");
  EXPECT_EQ(entries.front(), "6");
}

TEST(ChatHistory, DamagedLinesAreSkipped) {
  const TempFolder temp;
  write_file_atomic(temp / "history", "\"good\"\nnot json\n[1]\n\"cut");
  EXPECT_EQ(ChatHistory(temp / "history").entries(), Lines{"good"});
}

TEST(ChatHistory, AFileThatCannotBeWrittenIsSaidOnce) {
  const TempFolder temp;
  write_file_atomic(temp / "file", "x");
  ChatHistory history(temp / "file/history");
  EXPECT_FALSE(history.add("a"));
  EXPECT_TRUE(history.add("b"));
  EXPECT_EQ(history.entries(), (Lines{"a", "b"})) << "this chat still has them";
}

TEST(ChatHistory, OthersCannotReadIt) {
  const TempFolder temp;
  ChatHistory history(temp / "history");
  history.add("a");
  EXPECT_EQ(std::filesystem::status(temp / "history").permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

}  // namespace
}  // namespace vl2::cli

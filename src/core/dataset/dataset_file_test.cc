#include "core/dataset/dataset_file.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"

namespace vl2 {
namespace {

class DatasetFileTest : public testing::Test {
 protected:
  DatasetFile open(std::string_view bytes, const DatasetOptions& options = {}) {
    write_file_atomic(folder_ / "set.json", bytes);
    return DatasetFile(folder_ / "set.json", options);
  }
  // Text of record i, or "LINE: reason".
  std::string at(const DatasetFile& file, int64_t i) {
    const auto result = file.read(i);
    const auto line = [&](const std::string& where) { return where.substr(file.path().string().size() + 1); };
    if (const auto* bad = std::get_if<BadRecord>(&result)) return line(bad->where) + ": " + bad->reason;
    const auto& record = std::get<TrainingRecord>(result);
    EXPECT_EQ(record.where, file.where(i));
    return record.turns.front().content + "@" + line(record.where);
  }

  TempFolder folder_;
};

TEST_F(DatasetFileTest, ReadsLinesInAnyOrderWithTheirNumbers) {
  const DatasetFile file = open("\n{\"text\": \"a\"}\r\n\n  \t\n{\"text\": \"b\"}\n{\"text\": \"c\"}");
  ASSERT_EQ(file.size(), 3);
  EXPECT_EQ(at(file, 2), "c@6");
  EXPECT_EQ(at(file, 0), "a@2");
  EXPECT_EQ(at(file, 1), "b@5");
}

TEST_F(DatasetFileTest, ABadLineLeavesTheOthersReadable) {
  const DatasetFile file = open("{\"text\": \"a\"}\n{\"text\": \n{\"text\": \"\xff\"}\n{\"text\": \"b\"}\n");
  ASSERT_EQ(file.size(), 4);
  EXPECT_EQ(at(file, 0), "a@1");
  EXPECT_EQ(at(file, 1).substr(0, 18), "2: not valid JSON:");
  EXPECT_EQ(at(file, 2).substr(0, 18), "3: not valid JSON:");
  EXPECT_EQ(at(file, 3), "b@4");
}

TEST_F(DatasetFileTest, ReadsTheElementsOfAnArray) {
  const DatasetFile file = open(
      "\xEF\xBB\xBF [\n {\"text\": \"a],{\\\"\"},\n\n {\"text\":\n \"b\", \"x\": [1, {\"y\": []}]} ,{\"text\": "
      "\"c\\\\\"}]\n");
  ASSERT_EQ(file.size(), 3);
  EXPECT_EQ(at(file, 0), "a],{\"@2");
  EXPECT_EQ(at(file, 1), "b@4");
  EXPECT_EQ(at(file, 2), "c\\@5");
}

TEST_F(DatasetFileTest, EmptyFilesHoldNoRecords) {
  for (const char* text : {"", "\n \n", "[]", " [ ] \n", "\xEF\xBB\xBF"}) EXPECT_EQ(open(text).size(), 0) << text;
}

TEST_F(DatasetFileTest, DamagedArraysGiveTheirGoodElementsAndSayWhatIsWrong) {
  const DatasetFile cut = open("[{\"text\": \"a\"},\n{\"text\": \"b");
  ASSERT_EQ(cut.size(), 2);
  EXPECT_EQ(at(cut, 0), "a@1");
  EXPECT_EQ(at(cut, 1).substr(0, 2), "2:");
  const DatasetFile open_end = open("[{\"text\": \"a\"},\n");
  ASSERT_EQ(open_end.size(), 2);
  EXPECT_EQ(at(open_end, 1), "2: the file ends before its array does; get it again");
  for (const char* text :
       {"[{\"text\": \"a\"},]", "[{\"text\": \"a\"},,{\"text\": \"b\"}]", "[,{\"text\": \"a\"}]",
        "[{\"text\": \"a\"}] x", "[{\"text\": \"a\"} {\"text\": \"b\"}]", "[", "[{]", "[\"", "[\"\\"}) {
    const DatasetFile file = open(text);
    int bad = 0;
    for (int64_t i = 0; i < file.size(); ++i) bad += std::holds_alternative<BadRecord>(file.read(i));
    EXPECT_EQ(bad, 1) << text;
  }
}

TEST_F(DatasetFileTest, LongRecordsAreBad) {
  const DatasetFile file = open("{\"text\": \"aaaaaaaaaaaaaaaaaaaa\"}\n{\"text\": \"a\"}\n", {.max_record_bytes = 20});
  EXPECT_EQ(at(file, 0), "1: a record of 32 bytes or more, expected at most 20");
  EXPECT_EQ(at(file, 1), "a@2");
}

TEST_F(DatasetFileTest, PicturesLieBesideTheFileOrUnderTheGivenRoot) {
  const char* text = R"({"text": "<image>", "images": ["x/1.png"]})";
  const auto image = [](const DatasetFile& file) { return std::get<TrainingRecord>(file.read(0)).images.at(0); };
  EXPECT_EQ(image(open(text)), (folder_ / "x/1.png").string());
  EXPECT_EQ(image(open(text, {.image_root = "/root"})), "/root/x/1.png");
}

TEST_F(DatasetFileTest, AMissingFileOrAFolderIsAnError) {
  EXPECT_THROW(DatasetFile(folder_ / "none.jsonl"), Error);
  EXPECT_THROW(DatasetFile(folder_.path()), Error);
}

}  // namespace
}  // namespace vl2

#include "eval/nano_skills.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace vl2::eval {
namespace {

constexpr std::string_view kRecords =
    R"({"id":"a","messages":[{"role":"user","content":"<image>\nWhat colour is the star?"},{"role":"assistant","content":"red"}],"images":["images/a.png"],"task":"colour"}

{"id":"b","messages":[{"role":"user","content":"<image>\n<|ref|>the star<|/ref|>"},{"role":"assistant","content":"<|ref|>the star<|/ref|><|det|>[[0, 0, 100, 100]]<|/det|>"}],"images":["images/b.png"],"task":"locate","expect":{"boxes":[[0,0,100,100]]}}
{"id":"c","messages":[{"role":"user","content":"<image>\nWhat is the value of B?"},{"role":"assistant","content":"40"}],"images":["/tmp/c.png"],"task":"bar","expect":{"value":40,"tolerance":0.05}}
{"id":"d","messages":[{"role":"user","content":"<image>\nFind all the <|ref|>stars<|/ref|>"},{"role":"assistant","content":"x"}],"images":["images/d.png"],"task":"locate","expect":{"boxes":[[0,0,10,10],[500,500,600,600]]}}
)";

std::vector<NanoRecord> records() { return parse_nano_records(kRecords, "sets/test.jsonl"); }

std::string det(const char* boxes) { return std::string("<|ref|>the star<|/ref|><|det|>") + boxes + "<|/det|>"; }

TEST(NanoRecords, KeepTheQuestionTheExpectationAndWherePicturesLie) {
  const auto all = records();
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[0].messages.size(), 1u);
  EXPECT_EQ(all[0].expected, "red");
  EXPECT_EQ(all[0].images[0], std::filesystem::path("sets/images/a.png"));
  EXPECT_EQ(all[2].images[0], std::filesystem::path("/tmp/c.png"));
  EXPECT_EQ(all[1].boxes, (std::vector<Box>{{0, 0, 100, 100}}));
  EXPECT_EQ(all[2].value, 40.0);
}

TEST(NanoScores, WordsMustBeTheSameLetters) {
  const auto all = records();
  EXPECT_TRUE(is_right(all[0], " red\n"));
  EXPECT_FALSE(is_right(all[0], "Red"));
  EXPECT_FALSE(is_right(all[0], "red."));
}

TEST(NanoScores, ABarMayBeOffByItsToleranceAndMustBeANumber) {
  const auto all = records();
  for (const char* right : {"40", "38", "42", "40.0"}) EXPECT_TRUE(is_right(all[2], right)) << right;
  for (const char* wrong : {"37", "43", "", "about 40", "40 apples", "nan", "inf", "-40"})
    EXPECT_FALSE(is_right(all[2], wrong)) << wrong;
}

TEST(NanoScores, ABoxIsRightFromHalfAnOverlapOnAndEachCountsOnce) {
  const auto all = records();
  EXPECT_TRUE(is_right(all[1], det("[[0, 0, 100, 90]]")));
  EXPECT_FALSE(is_right(all[1], det("[[0, 0, 100, 50]]"))) << "exactly a half is not more than a half";
  EXPECT_FALSE(is_right(all[1], det("[[0, 0, 100, 100], [0, 0, 100, 100]]"))) << "one too many";
  EXPECT_FALSE(is_right(all[1], "There is no star in the image."));
  EXPECT_TRUE(is_right(all[3], det("[[500, 500, 600, 600], [0, 0, 10, 10]]"))) << "any order";
  EXPECT_FALSE(is_right(all[3], det("[[0, 0, 10, 10], [0, 0, 10, 10]]"))) << "one box cannot be two";
}

TEST(NanoScores, IntersectionOverUnionByHand) {
  EXPECT_DOUBLE_EQ(intersection_over_union({0, 0, 10, 10}, {0, 0, 10, 10}), 1);
  EXPECT_DOUBLE_EQ(intersection_over_union({0, 0, 10, 10}, {5, 0, 15, 10}), 50.0 / 150);
  EXPECT_DOUBLE_EQ(intersection_over_union({0, 0, 10, 10}, {10, 0, 20, 10}), 0);
  EXPECT_DOUBLE_EQ(intersection_over_union({5, 5, 5, 5}, {5, 5, 5, 5}), 0);
}

TEST(NanoScores, TheTableAddsUpSkillBySkill) {
  const std::vector<NanoAnswer> answers = {{"a", "blue", {}},
                                           {"a", "red", {}},  // the last one counts
                                           {"b", det("[[0, 0, 100, 80]]"), {}},
                                           {"d", det("[[500, 500, 600, 600]]"), {}},
                                           {"z", "?", {}}};
  const NanoScores scores = score_nano(records(), answers);
  ASSERT_EQ(scores.skills.size(), 3u);
  EXPECT_EQ(scores.skills[0].task, "bar");
  EXPECT_EQ(scores.skills[0].answered, 0);
  EXPECT_EQ(scores.skills[1].task, "colour");
  EXPECT_EQ(scores.skills[1].right, 1);
  const SkillScore& locate = scores.skills[2];
  EXPECT_EQ(locate.questions, 2);
  EXPECT_EQ(locate.right, 1);
  EXPECT_EQ(locate.exact, 0);
  EXPECT_EQ(locate.boxes, 3);
  EXPECT_EQ(locate.boxes_found, 2);
  EXPECT_DOUBLE_EQ(locate.mean_iou(), (0.8 + 0 + 1) / 3);
  EXPECT_EQ(scores.all.questions, 4);
  EXPECT_EQ(scores.all.answered, 3);
  EXPECT_DOUBLE_EQ(scores.all.share_right(), 0.5);
  EXPECT_EQ(scores.unknown_ids, 1);
  const std::string text = scores_text(scores);
  for (const char* word : {"colour", "66.7 %", "0.600", "1 questions have no answer", "1 answers belong"})
    EXPECT_NE(text.find(word), std::string::npos) << word << "\n" << text;
}

TEST(NanoAnswers, SurviveBeingWrittenAndReadWhateverTheyHold) {
  const std::vector<NanoAnswer> answers = {{"a", "line\nnext \"x\"", 0.25}, {"b", "\xff", std::nullopt}};
  const auto back = parse_nano_answers(format_nano_answers(answers), "x");
  ASSERT_EQ(back.size(), 2u);
  EXPECT_EQ(back[0].text, answers[0].text);
  EXPECT_EQ(back[0].margin, 0.25);
  EXPECT_EQ(back[1].text, "\xef\xbf\xbd");
  EXPECT_FALSE(back[1].margin.has_value());
}

TEST(NanoAnswers, AreComparedAllOfThemAndThoseThatWereSure) {
  const std::vector<NanoAnswer> a = {{"1", "x", 1.0}, {"2", "y", 1e-4}, {"3", "z", 1.0}, {"4", "w", {}}};
  const std::vector<NanoAnswer> b = {{"1", "x", 2.0}, {"2", "n", 1.0}, {"3", "z", 1e-5}, {"5", "w", {}}};
  std::vector<NanoRecord> records(2);
  records[0].id = "1", records[0].expected = "x";
  records[1].id = "2", records[1].expected = "y";
  const AnswerAgreement agreement = compare_answers(records, a, b, 2e-3);
  EXPECT_EQ(agreement.common, 3);
  EXPECT_EQ(agreement.equal, 2);
  EXPECT_EQ(agreement.judged_alike, 1) << "the second is right in one of them alone, the third no question of these";
  EXPECT_EQ(agreement.sure, 1);
  EXPECT_EQ(agreement.sure_equal, 1);
  EXPECT_EQ(agreement.different_ids, std::vector<std::string>{"2"});
}

void expect_corrupt(const std::string& text, const std::string& words) {
  try {
    parse_nano_records(text, "r.jsonl");
    ADD_FAILURE() << "was accepted: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorrupt) << error.what();
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
}

TEST(NanoRecords, BadOnesAreRefusedWithTheirLine) {
  const std::string good =
      R"({"id":"a","messages":[{"role":"user","content":"q"},{"role":"assistant","content":"x"}],"task":"text"})";
  EXPECT_EQ(parse_nano_records(good, "r").size(), 1u);
  expect_corrupt("", "no records");
  expect_corrupt(good + "\n" + good, "r.jsonl:2");
  expect_corrupt("{", "r.jsonl:1");
  expect_corrupt("[]", "r.jsonl:1");
  expect_corrupt(R"({"id":1,"messages":[],"task":"text"})", "id");
  expect_corrupt(R"({"id":"a","messages":[],"task":"text"})", "0 answers");
  expect_corrupt(R"({"id":"a","messages":[{"role":"user"}],"task":"text"})", "content");
  expect_corrupt(
      R"({"id":"a","messages":[{"role":"assistant","content":"x"},{"role":"assistant","content":"x"}],"task":"t"})",
      "--questions one");
  const std::string head = good.substr(0, good.size() - 1);
  expect_corrupt(head + R"(,"images":"x"})", "images");
  expect_corrupt(head + R"(,"images":[1]})", "images");
  expect_corrupt(head + R"(,"expect":[]})", "expect");
  expect_corrupt(head + R"(,"expect":{"boxes":[[0,0,1]]}})", "boxes");
  expect_corrupt(head + R"(,"expect":{"boxes":[[5,0,1,1]]}})", "boxes");
  expect_corrupt(head + R"(,"expect":{"boxes":[[0,0,1,1e30]]}})", "boxes");
  expect_corrupt(head + R"(,"expect":{"value":"4"}})", "value");
}

}  // namespace
}  // namespace vl2::eval

#include "core/processor/record_markup.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace vl2 {
namespace {

const std::vector<ImageSize> kSizes = {{1000, 500}, {200, 100}};

TrainingRecord record_of(std::string question, std::string answer, RecordObjects objects) {
  TrainingRecord record;
  record.turns = {{"user", std::move(question)}, {"assistant", std::move(answer), false}};
  record.objects = std::move(objects);
  return record;
}

std::string refusal(const TrainingRecord& record, std::span<const ImageSize> sizes = kSizes) {
  try {
    turns_with_markup(record, sizes);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "accepted";
}

TEST(RecordMarkup, BoxesAreThousandthsOfTheirPicture) {
  const auto turns =
      turns_with_markup(record_of("<image><image>Find <ref-object>.", "<ref-object><bbox> and <ref-object> <bbox>!",
                                  {{"dogs", "a dog", "a cat"}, {{0, 0, 1000, 500, 0}, {100, 25, 200, 75, 1}}}),
                        kSizes);
  EXPECT_EQ(turns[0].content, "<image><image>Find <|ref|>dogs<|/ref|>.");
  EXPECT_EQ(turns[1].content,
            "<|ref|>a dog<|/ref|><|det|>[[0, 0, 999, 999]]<|/det|> and "
            "<|ref|>a cat<|/ref|> <|det|>[[500, 250, 999, 749]]<|/det|>!");
  EXPECT_EQ(turns[1].loss, false);
  for (const TrainingTurn& turn : turns) EXPECT_EQ(markup_problem(turn.content), std::nullopt);
}

TEST(RecordMarkup, FractionsAreOfThePictureToo) {
  const auto turns =
      turns_with_markup(record_of("", "<bbox>", {{}, {{0.5, 0.25, 1, 1, 1}}, RecordObjects::Unit::kFraction}), kSizes);
  EXPECT_EQ(turns[1].content, "<|det|>[[500, 250, 999, 999]]<|/det|>");
}

TEST(RecordMarkup, NeighbouringBoxesShareAListAndCornersAreOrdered) {
  const RecordObjects objects{{"x"}, {{0, 0, 1000, 500}, {1000, 500, 0, 0}, {0, 0, 0, 0}}};
  const auto turns = turns_with_markup(record_of("", "<ref-object><bbox>, <bbox> or <bbox>", objects), kSizes);
  EXPECT_EQ(turns[1].content,
            "<|ref|>x<|/ref|><|det|>[[0, 0, 999, 999], [0, 0, 999, 999]]<|/det|> or <|det|>[[0, 0, 0, 0]]<|/det|>");
}

TEST(RecordMarkup, WithoutObjectsTextStaysAsItIs) {
  TrainingRecord record = record_of("<bbox>", "<ref-object>", {});
  record.objects.reset();
  EXPECT_EQ(turns_with_markup(record, {}), record.turns);
}

TEST(RecordMarkup, LabelsCannotBringTagsOfTheirOwn) {
  const auto turns = turns_with_markup(record_of("", "<ref-object>", {{"a<|/ref|><|det|>[[1]]<|/det|>"}, {}}), kSizes);
  EXPECT_EQ(turns[1].content, "<|ref|>a[[1]]<|/ref|>");
}

TEST(RecordMarkup, RefusesBoxesOutsideAndWrongCounts) {
  EXPECT_EQ(refusal(record_of("", "<bbox>", {{}, {{-0.9, 0, 1000.9, 500}}})), "accepted");
  for (const RecordObjects::Box box :
       {RecordObjects::Box{-1.1, 0, 5, 5}, {0, 0, 1002, 5}, {0, 0, 5, 502}, {0, -2, 5, 5}})
    EXPECT_NE(refusal(record_of("", "<bbox>", {{}, {box}})).find("outside of picture 1 of 1000 x 500"),
              std::string::npos);
  EXPECT_NE(refusal(record_of("", "<bbox>", {{}, {{0, 0, 500, 20, 1}}})).find("outside of picture 2"),
            std::string::npos);
  EXPECT_NE(refusal(record_of("", "<bbox>", {{}, {{0, 0, 5, 5, 2}}})).find("lies in picture 3"), std::string::npos);
  EXPECT_NE(refusal(record_of("", "<bbox>", {{}, {{0, 0, 1.1, 1}}, RecordObjects::Unit::kFraction})).find("outside"),
            std::string::npos);
  EXPECT_NE(refusal(record_of("", "<bbox><bbox>", {{}, {{0, 0, 5, 5}}})).find("2 <bbox>"), std::string::npos);
  EXPECT_NE(refusal(record_of("<ref-object>", "<bbox>", {{}, {{0, 0, 5, 5}}})).find("1 <ref-object>"),
            std::string::npos);
}

TEST(RecordMarkup, FindsMarkupThatMustNotBeLearnt) {
  for (const char* good : {"", "no markup", "<|ref|>x<|/ref|>", "<|det|>[[0, 0, 999, 999]]<|/det|>",
                           "<|det|>[[1,2,3,4] , [ 5, 6, 7, 8]]<|/det|> <|det|>[[1, 1, 1, 1]]<|/det|>"})
    EXPECT_EQ(markup_problem(good), std::nullopt) << good;
  for (const char* bad :
       {"<|det|>", "<|det|>[[1, 2, 3, 4]]", "<|det|><|/det|>", "<|det|>[]<|/det|>", "<|det|>[1, 2, 3, 4]<|/det|>",
        "<|det|>[[1, 2, 3, 1000]]<|/det|>", "<|det|>[[-1, 2, 3, 4]]<|/det|>", "<|det|>[[1, 2, 3]]<|/det|>",
        "<|det|>[[1, 2, 3, 4, 5]]<|/det|>", "<|det|>[[1.5, 2, 3, 4]]<|/det|>", "<|det|>[[1, 2, 3, 4],]<|/det|>",
        "<|det|>[[1, 2, 3, 4]] x<|/det|>", "<|det|>[[1, 2, 3, 4]<|/det|>", "<|det|>[[3, 2, 1, 4]]<|/det|>",
        "<|det|>[[1, 4, 3, 2]]<|/det|>", "<|det|>[[1, 2, 3, 99999999999]]<|/det|>", "<|det|>[[1e2, 2, 300, 4]]<|/det|>",
        "<|det|>[[1, 2, 3, 4]]<|/det|><|det|>[[a, b, c, d]]<|/det|>"})
    EXPECT_NE(markup_problem(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace vl2

#include "train/input/sample.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/image/tiling.h"
#include "core/processor/toy_processor.h"
#include "train/input/micro_batch.h"
#include "train/input/test_records.h"

namespace vl2::train {
namespace {

class SampleTest : public testing::Test {
 protected:
  SampleTest() : processor_(toy_processor()) {
    write_picture(folder_ / "wide.png", 60, 30, 1);
    write_picture(folder_ / "small.png", 20, 20, 2);
  }

  TrainingRecord record(std::vector<TrainingTurn> turns, const std::vector<std::string>& images = {}) {
    TrainingRecord made;
    made.where = "set.jsonl:7";
    made.turns = std::move(turns);
    for (const std::string& image : images)
      made.images.push_back(image.starts_with("data:") ? image : (folder_ / image).string());
    return made;
  }
  TrainingRecord raw(const std::string& text, const std::vector<std::string>& images = {}) {
    TrainingRecord made = record({{"", text}}, images);
    made.raw_text = true;
    return made;
  }
  Sample planned(const TrainingRecord& made, const SampleOptions& options = {}) {
    auto result = plan_sample(processor_, made, options);
    if (const auto* problem = std::get_if<Problem>(&result)) {
      ADD_FAILURE() << problem->reason;
      return {};
    }
    return std::get<Sample>(std::move(result));
  }
  Problem problem(const TrainingRecord& made, const SampleOptions& options = {}) {
    auto result = plan_sample(processor_, made, options);
    if (std::holds_alternative<Sample>(result)) return {ProblemKind::kRecord, "", "accepted"};
    EXPECT_EQ(std::get<Problem>(result).where, "set.jsonl:7");
    return std::get<Problem>(result);
  }

  TempFolder folder_;
  Processor processor_;
};

TEST_F(SampleTest, IsWhatTheProcessorBuildsOfTheDecodedPictures) {
  const TrainingRecord made =
      record({{"user", "<image>\nAnd <image>?"}, {"assistant", "Two."}}, {"wide.png", "small.png"});
  Sample sample = planned(made);
  EXPECT_TRUE(sample.prompt.images[0].pixels.empty());
  ASSERT_EQ(load_pictures(sample, made, {}), std::nullopt);
  const std::vector<Message> messages = {{"user", "<image>\nAnd <image>?"}, {"assistant", "Two."}};
  const std::vector<Image> images = {test_picture(60, 30, 1), test_picture(20, 20, 2)};
  const MultimodalPrompt whole = processor_.build(messages, images, {.training = true});
  EXPECT_EQ(sample.prompt.input_ids, whole.input_ids);
  EXPECT_EQ(sample.prompt.labels, whole.labels);
  EXPECT_EQ(sample.prompt.images_seq_mask, whole.images_seq_mask);
  ASSERT_EQ(sample.prompt.images.size(), 2u);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(sample.prompt.images[i].pixels, whole.images[i].pixels) << i;
  EXPECT_GT(sample.prompt.images[0].num_tiles(), sample.prompt.images[1].num_tiles());
}

TEST_F(SampleTest, TheMaskLeavesTheAnswerAndEosOnly) {
  const TrainingRecord made = record({{"system", "S"}, {"user", "<image>q"}, {"assistant", "ab"}}, {"small.png"});
  for (const bool mask : {true, false}) {
    const MultimodalPrompt prompt = planned(made, {.mask_prompt = mask}).prompt;
    const size_t n = prompt.labels.size();
    for (size_t i = 1; i < n; ++i) {
      const bool answer = i + 3 >= n;  // a, b, eos
      const bool learnt = prompt.images_seq_mask[i] == 0 && (answer || !mask);
      EXPECT_EQ(prompt.labels[i], learnt ? prompt.input_ids[i] : kIgnoredLabel) << i;
    }
    EXPECT_EQ(prompt.labels.back(), kToyEos);
    EXPECT_EQ(prompt.labels[n - 3], 'a');
  }
}

TEST_F(SampleTest, ATurnsOwnFlagGoesBeforeTheMask) {
  const TrainingRecord made =
      record({{"user", "q", true}, {"assistant", "a", false}, {"user", "r"}, {"assistant", "b"}});
  const MultimodalPrompt prompt = planned(made, {.mask_prompt = true}).prompt;
  const auto learnt = [&](size_t from, size_t to) {
    for (size_t i = from; i < to; ++i)
      if (prompt.labels[i] == kIgnoredLabel) return false;
    return true;
  };
  const std::vector<int64_t>& ends = prompt.message_ends;
  EXPECT_TRUE(learnt(1, static_cast<size_t>(ends[0])));
  EXPECT_EQ(prompt.labels[static_cast<size_t>(ends[0])], kIgnoredLabel);      // a
  EXPECT_EQ(prompt.labels[static_cast<size_t>(ends[1]) - 1], kIgnoredLabel);  // its eos
  EXPECT_TRUE(learnt(static_cast<size_t>(ends[2]), prompt.labels.size()));
  EXPECT_EQ(problem(record({{"user", "q"}, {"assistant", "a", false}}), {.mask_prompt = true}).kind,
            ProblemKind::kRecord);
}

TEST_F(SampleTest, OfRawTextEveryTokenIsLearntButNoPicture) {
  const MultimodalPrompt prompt = planned(raw("ab <image> c", {"small.png"}), {.mask_prompt = true}).prompt;
  for (size_t i = 0; i < prompt.labels.size(); ++i)
    EXPECT_EQ(prompt.labels[i], prompt.images_seq_mask[i] != 0 ? kIgnoredLabel : prompt.input_ids[i]) << i;
  EXPECT_EQ(prompt.input_ids.back(), kToyEos);
}

TEST_F(SampleTest, BoxesBecomeNativeMarkup) {
  TrainingRecord made = record({{"user", "<image><ref-object>"}, {"assistant", "<bbox>"}}, {"wide.png"});
  made.objects = RecordObjects{{"x"}, {{0, 0, 60, 15}}, RecordObjects::Unit::kPixels};
  const MultimodalPrompt prompt = planned(made).prompt;
  const std::string text = processor_.tokenizer().decode(prompt.input_ids);
  EXPECT_NE(text.find("<|ref|>x<|/ref|>"), std::string::npos) << text;
  EXPECT_NE(text.find("<|det|>[[0, 0, 999, 500]]<|/det|>"), std::string::npos) << text;
  EXPECT_EQ(std::count(prompt.input_ids.begin(), prompt.input_ids.end(), processor_.special().det), 1);
}

TEST_F(SampleTest, TurnsThatDoNotFitAreDroppedWithTheirPictures) {
  const TrainingRecord made = record({{"user", "<image>one"},
                                      {"assistant", "a"},
                                      {"user", "<image>two"},
                                      {"assistant", "b"},
                                      {"user", "c"},
                                      {"assistant", "d"}},
                                     {"small.png", "small.png"});
  const Sample whole = planned(made);
  EXPECT_FALSE(whole.shortened);
  const std::vector<int64_t> ends = whole.prompt.message_ends;
  for (int64_t limit = ends[1]; limit <= ends[5]; ++limit) {
    const Sample sample = planned(made, {.max_length = limit});
    const size_t turns = limit >= ends[5] ? 6 : limit >= ends[3] ? 4 : 2;
    EXPECT_EQ(sample.num_tokens(), ends[turns - 1]) << limit;
    EXPECT_EQ(sample.shortened, turns < 6);
    EXPECT_EQ(sample.prompt.images.size(), turns == 2 ? 1u : 2u);
    EXPECT_EQ(sample.prompt.input_ids.back(), kToyEos);
    EXPECT_EQ(sample.prompt.labels.size(), sample.prompt.input_ids.size());
    EXPECT_EQ(sample.prompt.images_seq_mask.size(), sample.prompt.input_ids.size());
    int64_t vision = 0;
    for (const int64_t tokens : sample.prompt.num_image_tokens) vision += tokens;
    EXPECT_EQ(std::count(sample.prompt.images_seq_mask.begin(), sample.prompt.images_seq_mask.end(), 1), vision);
  }
  EXPECT_EQ(problem(made, {.max_length = ends[1] - 1}).kind, ProblemKind::kTooLong);
}

// Of three pictures each is one tile; the first two alone are cut finer and may then be too long again.
TEST_F(SampleTest, WhatIsLeftOfAnOverLongSampleIsTiledAnew) {
  std::vector<TrainingTurn> turns;
  for (int i = 0; i < 3; ++i) {
    turns.push_back({"user", "<image>"});
    turns.push_back({"assistant", "a"});
  }
  const TrainingRecord made = record(turns, {"wide.png", "wide.png", "wide.png"});
  turns.resize(4);
  const int64_t two = planned(record(turns, {"wide.png", "wide.png"})).num_tokens();
  turns.resize(2);
  const int64_t one = planned(record(turns, {"wide.png"})).num_tokens(), three = planned(made).num_tokens();
  ASSERT_LT(one, two);
  for (int64_t limit = one; limit < three; ++limit) {
    const Sample sample = planned(made, {.max_length = limit});
    EXPECT_EQ(sample.num_tokens(), limit >= two ? two : one) << limit;
    EXPECT_GT(sample.prompt.images[0].tiles_wide, 1);
  }
}

TEST_F(SampleTest, WhatDoesNotFitWholeIsLeftOutWhereThatIsAsked) {
  const TrainingRecord made = record({{"user", "one"}, {"assistant", "a"}, {"user", "two"}, {"assistant", "b"}}, {});
  const int64_t all = planned(made).num_tokens();
  SampleOptions options;
  options.drop_long = true;
  options.max_length = all;
  EXPECT_EQ(planned(made, options).num_tokens(), all);
  options.max_length = all - 1;
  EXPECT_EQ(problem(made, options).kind, ProblemKind::kTooLong);
  options.max_length = 10;
  EXPECT_EQ(problem(raw(std::string(100, 'a')), options).kind, ProblemKind::kTooLong);
}

TEST_F(SampleTest, AQuestionWithoutAnAnswerAtTheEndIsDropped) {
  const Sample sample = planned(record({{"user", "q"}, {"assistant", "a"}, {"user", "<image>"}}, {"small.png"}));
  EXPECT_TRUE(sample.shortened);
  EXPECT_TRUE(sample.prompt.images.empty());
  EXPECT_EQ(sample.num_tokens(), planned(record({{"user", "q"}, {"assistant", "a"}})).num_tokens());
  EXPECT_EQ(problem(record({{"user", "q"}})).kind, ProblemKind::kRecord);
}

TEST_F(SampleTest, RawTextIsCutButNeverInsideOfAPicture) {
  const TrainingRecord made = raw("ab<image><image>cd", {"small.png", "small.png"});
  const Sample whole = planned(made);
  const int64_t picture = whole.prompt.num_image_tokens[0], first = 3 + picture, second = first + picture;
  for (int64_t limit = first; limit < whole.num_tokens(); ++limit) {
    const Sample sample = planned(made, {.max_length = limit});
    EXPECT_EQ(sample.num_tokens(), limit >= second ? limit : first) << limit;
    EXPECT_EQ(sample.prompt.images.size(), limit >= second ? 2u : 1u);
    EXPECT_TRUE(sample.shortened);
  }
  EXPECT_EQ(problem(made, {.max_length = first - 1}).kind, ProblemKind::kTooLong);
  EXPECT_EQ(planned(raw(std::string(100, 'a')), {.max_length = 10}).num_tokens(), 10);
}

TEST_F(SampleTest, SaysWhatIsWrong) {
  write_file_atomic(folder_ / "text.png", "no picture");
  write_picture(folder_ / "thin.png", 2000, 1, 3);
  const auto kind = [&](const TrainingRecord& made) { return problem(made).kind; };
  const std::vector<TrainingTurn> one = {{"user", "<image>q"}, {"assistant", "a"}};
  EXPECT_EQ(kind(record(one)), ProblemKind::kPlaceholders);
  EXPECT_EQ(kind(record(one, {"small.png", "small.png"})), ProblemKind::kPlaceholders);
  EXPECT_EQ(kind(record({{"user", "q"}, {"assistant", "<image>"}}, {"small.png"})), ProblemKind::kPlaceholders);
  EXPECT_EQ(kind(record(one, {"missing.png"})), ProblemKind::kPicture);
  EXPECT_EQ(kind(record(one, {"text.png"})), ProblemKind::kPicture);
  EXPECT_EQ(kind(record(one, {"thin.png"})), ProblemKind::kPicture);
  EXPECT_EQ(kind(record(one, {"data:image/png,abc"})), ProblemKind::kPicture);
  EXPECT_EQ(kind(record(one, {"data:image/png;base64,*"})), ProblemKind::kPicture);
  EXPECT_EQ(kind(record({{"user", "q"}, {"assistant", "<|det|>[[0, 0, 1000, 5]]<|/det|>"}})), ProblemKind::kBox);
  TrainingRecord boxed = record({{"user", "<image>"}, {"assistant", "<bbox>"}}, {"small.png"});
  boxed.objects = RecordObjects{{}, {{0, 0, 60, 15}}, RecordObjects::Unit::kPixels};
  EXPECT_EQ(kind(boxed), ProblemKind::kBox);
}

TEST_F(SampleTest, APictureDamagedBehindItsHeaderIsFoundWhenItIsLoaded) {
  const std::string png = encode_png(test_picture(40, 40, 5));
  write_file_atomic(folder_ / "cut.png", png.substr(0, png.size() / 2));
  const TrainingRecord made = record({{"user", "<image>"}, {"assistant", "a"}}, {"cut.png"});
  Sample sample = planned(made);
  const auto found = load_pictures(sample, made, {});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->kind, ProblemKind::kPicture);
  EXPECT_EQ(found->where, "set.jsonl:7");
  write_picture(folder_ / "cut.png", 41, 40, 5);
  EXPECT_NE(load_pictures(sample, made, {})->reason.find("its file changed"), std::string::npos);
}

TEST_F(SampleTest, ReadsPicturesFromDataUris) {
  const std::string png = encode_png(make_image(20, 20, 1, 2, 3));
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t bit = 0; bit < png.size() * 8; bit += 6) {
    unsigned value = 0;
    for (size_t i = bit; i < bit + 6; ++i)
      value = value << 1 | (i < png.size() * 8 ? static_cast<unsigned char>(png[i / 8]) >> (7 - i % 8) & 1u : 0u);
    text += kDigits[value];
  }
  const TrainingRecord made = record({{"user", "<image><image>"}, {"assistant", "a"}},
                                     {"data:image/png;base64," + text, "data:image/png;base64," + text});
  Sample sample = planned(made);
  ASSERT_EQ(load_pictures(sample, made, {}), std::nullopt);
  EXPECT_EQ(sample.prompt.images[0].original_width, 20);
  EXPECT_EQ(sample.prompt.images[1].pixels, cut_tiles(make_image(20, 20, 1, 2, 3), {1, 1}, 32));
}

}  // namespace
}  // namespace vl2::train

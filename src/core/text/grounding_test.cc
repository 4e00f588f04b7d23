#include "core/text/grounding.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "core/base/random.h"
#include "core/base/test_data.h"

namespace vl2 {
namespace {

TEST(Grounding, TheDemosBoxesAreReproduced) {
  VL2_NEED_SHARED(shared);
  const nlohmann::json golden = nlohmann::json::parse(read_file(shared / "golden/postprocess/bbox_cases.json"));
  int drawn = 0;
  for (const nlohmann::json& c : golden["cases"]) {
    SCOPED_TRACE(c["response"].get<std::string>());
    const auto boxes = parse_boxes_as_demo(c["response"].get<std::string>(), c["w"], c["h"]);
    ASSERT_EQ(boxes.has_value(), !c["result"].is_null());
    if (!boxes) continue;
    std::vector<DemoBox> expected;
    for (const nlohmann::json& b : c["result"])
      expected.push_back({b["label"], b["box"][0], b["box"][1], b["box"][2], b["box"][3]});
    EXPECT_EQ(*boxes, expected);
    ++drawn;
  }
  EXPECT_GT(drawn, 20);
}

TEST(Grounding, AnAnswerIsTextAndObjects) {
  const GroundedAnswer answer = parse_grounding(
      "Two <|ref|>dogs<|/ref|><|det|>[[1, 2, 30, 40], [500, 600, 999, 700]]<|/det|> are on the "
      "<|ref|>草<|/ref|><|det|>[[0, 0, 999, 999]]<|/det|>.");
  EXPECT_EQ(answer.text, "Two dogs are on the 草.");
  ASSERT_EQ(answer.objects.size(), 2u);
  EXPECT_EQ(answer.objects[0].label, "dogs");
  EXPECT_EQ(answer.objects[0].boxes, (std::vector<Box>{{1, 2, 30, 40}, {500, 600, 999, 700}}));
  EXPECT_EQ(answer.text.substr(answer.objects[1].begin, answer.objects[1].end - answer.objects[1].begin), "草");
}

TEST(Grounding, WhatIsMalformedIsOnlyText) {
  const auto objects = [](std::string_view text) { return parse_grounding(text).objects; };
  EXPECT_TRUE(objects("").empty());
  EXPECT_TRUE(objects("<|ref|>a<|/ref|>").empty());
  EXPECT_TRUE(objects("<|ref|>a<|/ref|><|det|>[[1, 2, 3]]<|/det|>").empty());
  EXPECT_TRUE(objects("<|ref|>a<|/ref|><|det|>[[1, 2, 3, 4, 5]]<|/det|>").empty());
  EXPECT_TRUE(objects("<|ref|>a<|/ref|><|det|>[[x, 2, 3, 4]]<|/det|>").empty());
  EXPECT_TRUE(objects("<|ref|>a<|/ref|><|det|>[[nan, inf, 3, 4]]<|/det|>").empty());
  EXPECT_TRUE(objects("<|ref|>a<|/ref|><|det|>[[__import__('os'), 2, 3, 4]]<|/det|>").empty());
  EXPECT_TRUE(objects("<|ref|>a<|/ref|><|det|><|/det|>").empty());
  EXPECT_EQ(parse_grounding("<|ref|>a<|det|>[[x]]<|/det|> b").text, "a b");
  EXPECT_EQ(parse_grounding("a <|User|> <|grounding|>b<|").text, "a <|User|> b<|");
  EXPECT_EQ(parse_grounding("<|ref|>the end of an ans").text, "the end of an ans");
  EXPECT_EQ(parse_grounding("<|/det|>a<|/ref|>b<|ref|>").text, "ab");
  // One bad box does not take the good ones along.
  EXPECT_EQ(objects("<|ref|>a<|/ref|><|det|>[[1, 2], [1, 2, 3, 4]]<|/det|>")[0].boxes,
            (std::vector<Box>{{1, 2, 3, 4}}));
}

TEST(Grounding, BoxesAreFoundInUnusualMarkupToo) {
  const auto only = [](std::string_view text) {
    const GroundedAnswer answer = parse_grounding(text);
    EXPECT_EQ(answer.objects.size(), 1u) << text;
    return answer.objects.empty() ? GroundedObject{} : answer.objects[0];
  };
  const std::vector<Box> one = {{1, 2, 3, 4}};
  EXPECT_EQ(only("<|ref|>a<|/ref|><|det|>[1,2,3,4]<|/det|>").boxes, one);
  EXPECT_EQ(only("<|ref|>a<|/ref|>\n <|det|> [ [1, 2, 3, 4] , ] <|/det|>").boxes, one);
  EXPECT_EQ(only("<|ref|>a<|/ref|> is at <|det|>[[1, 2, 3, 4]]<|/det|>").label, "a");
  EXPECT_EQ(only("<|ref|>a<|det|>[[1, 2, 3, 4]]<|/det|>").label, "a");
  EXPECT_EQ(only("<|ref|>a\nb<|/ref|><|det|>[[1,\n2, 3, 4]]<|/det|>").label, "a\nb");
  EXPECT_EQ(only("see <|det|>[[1, 2, 3, 4]]<|/det|>").label, "");
  EXPECT_EQ(only("<|ref|>a<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|><|det|>[[5, 6, 7, 8]]<|/det|>").boxes.size(), 2u);
}

TEST(Grounding, AnAnswerCutOffWithinAListKeepsTheWholeBoxes) {
  const GroundedAnswer cut = parse_grounding("A <|ref|>dog<|/ref|><|det|>[[1, 2, 3, 4], [5, 6, 7");
  EXPECT_EQ(cut.text, "A dog");
  ASSERT_EQ(cut.objects.size(), 1u);
  EXPECT_EQ(cut.objects[0].boxes, (std::vector<Box>{{1, 2, 3, 4}}));
  // A list that somebody forgot to close does not swallow what follows.
  const GroundedAnswer open = parse_grounding("<|ref|>a<|/ref|><|det|>[[1, 2, 3, 4]] even so<|ref|>b<|/ref|>");
  EXPECT_EQ(open.text, "a even sob");
  EXPECT_EQ(open.objects.size(), 1u);
  EXPECT_EQ(parse_grounding("<|det|> even so").text, " even so");
}

TEST(Grounding, BoxesAreClampedAndTheirCornersPutInOrder) {
  const GroundedAnswer answer = parse_grounding("<|ref|>a<|/ref|><|det|>[[1200, -5, 30, 1e9]]<|/det|>");
  ASSERT_EQ(answer.objects.size(), 1u);
  EXPECT_EQ(answer.objects[0].boxes[0], (Box{30, 0, 999, 999}));
}

TEST(Grounding, FormattingAndParsingAreInverse) {
  Random random(1);
  for (int i = 0; i < 200; ++i) {
    std::vector<Box> boxes;
    for (int64_t n = 1 + random.below(4); n > 0; --n) {
      const auto a = static_cast<int>(random.below(1000)), b = static_cast<int>(random.below(1000)),
                 c = static_cast<int>(random.below(1000)), d = static_cast<int>(random.below(1000));
      boxes.push_back({std::min(a, c), std::min(b, d), std::max(a, c), std::max(b, d)});
    }
    const std::string text = format_grounding("the red square", boxes);
    const GroundedAnswer answer = parse_grounding(text);
    ASSERT_EQ(answer.objects.size(), 1u) << text;
    EXPECT_EQ(answer.objects[0].boxes, boxes);
    EXPECT_EQ(answer.text, "the red square");
  }
  EXPECT_EQ(format_grounding("The giraffe at the back.", std::vector<Box>{{580, 270, 999, 900}}),
            "<|ref|>The giraffe at the back.<|/ref|><|det|>[[580, 270, 999, 900]]<|/det|>");
}

TEST(Grounding, TagsInALabelDoNotBreakTheMarkup) {
  const std::vector<Box> boxes = {{1, 2, 3, 4}};
  for (const char* label : {"a<|/ref|>b", "<|det|>ab", "a<|r<|det|>ef|>b", "<|<|ref|>ref|>ab<|grounding|>"}) {
    const GroundedAnswer answer = parse_grounding(format_grounding(label, boxes));
    EXPECT_EQ(answer.text, "ab") << label;
    ASSERT_EQ(answer.objects.size(), 1u);
    EXPECT_EQ(answer.objects[0].boxes, boxes);
  }
  EXPECT_EQ(parse_grounding(format_grounding("x < y <| z", boxes)).objects[0].label, "x < y <| z");
}

TEST(Grounding, PixelsSurviveTheRoundTripWithinHalfAStep) {
  for (int64_t size : {10, 384, 999, 4000})
    for (int n = 0; n <= 999; ++n) {
      const Box box{n, 0, n, 999};
      EXPECT_EQ(encode_box(decode_box(box, size, size), size, size), box);
    }
  EXPECT_EQ(encode_box({-5, 0, 1e300, 10}, 100, 10), (Box{0, 0, 999, 999}));
}

TEST(Grounding, NoTextBreaksTheParsers) {
  Random random(7);
  const std::vector<std::string> pieces = {
      "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "[",  "]",    "[[", "]]", ", ", "12",
      "-3.5",    "999",      "1e400",   "\n",       "猫", "\xe7", "<|", "x",  " ",  "<|grounding|>"};
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (int64_t n = random.below(20); n > 0; --n)
      text += pieces[static_cast<size_t>(random.below(static_cast<int64_t>(pieces.size())))];
    const GroundedAnswer answer = parse_grounding(text);
    for (const GroundedObject& object : answer.objects) {
      EXPECT_EQ(answer.text.substr(object.begin, object.end - object.begin), object.label);
      for (const Box& b : object.boxes) {
        EXPECT_TRUE(0 <= b.x1 && b.x1 <= b.x2 && b.x2 <= 999) << text;
        EXPECT_TRUE(0 <= b.y1 && b.y1 <= b.y2 && b.y2 <= 999) << text;
      }
    }
    parse_boxes_as_demo(text, 640, 480);
  }
}

// Seconds even under a sanitizer; a parser that looks back from every tag takes hours.
TEST(Grounding, LongHostileAnswersTakeLinearTime) {
  for (const char* unit : {"<|ref|>", "<|ref|>\n", "<|ref|>a<|/ref|><|det|>", "<|det|>[[", "[", "]", "[1, 2, 3, 4]",
                           "<|", "<|det|>[1,", "<|/ref|>", "\n<|/ref|>"}) {
    std::string text = "<|ref|>a<|/ref|><|det|>[";
    while (text.size() < 1000000) text += unit;
    for (const char* last : {"", "\n<|/ref|>", "\n<|/ref|><|/det|>", "]]<|/det|>"}) {
      parse_grounding(text + last);
      parse_boxes_as_demo(text + last, 640, 480);
    }
  }
}

}  // namespace
}  // namespace vl2

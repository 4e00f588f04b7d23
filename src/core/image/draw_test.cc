#include "core/image/draw.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <random>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "core/image/fonts.h"

namespace vl2 {
namespace {

using Colour = std::array<int, 3>;
constexpr Colour kRed{255, 0, 0}, kGreen{0, 255, 0}, kGrey{90, 90, 90};

Colour pixel(const Image& image, int64_t x, int64_t y) {
  const uint8_t* p = image.row(y) + x * 3;
  return {p[0], p[1], p[2]};
}

Image grey(int64_t width, int64_t height) { return make_image(width, height, 90, 90, 90); }

DrawOptions without_fonts() {
  DrawOptions options;
  options.font_folders.emplace();
  return options;
}

// The rectangle around all pixels that differ.
struct Changed {
  int64_t left = 1 << 20, top = 1 << 20, right = -1, bottom = -1, count = 0;
};
Changed changed(const Image& before, const Image& after) {
  EXPECT_EQ(before.width, after.width);
  EXPECT_EQ(before.height, after.height);
  Changed out;
  for (int64_t y = 0; y < before.height; ++y)
    for (int64_t x = 0; x < before.width; ++x)
      if (pixel(before, x, y) != pixel(after, x, y)) {
        out.left = std::min(out.left, x);
        out.right = std::max(out.right, x);
        out.top = std::min(out.top, y);
        out.bottom = std::max(out.bottom, y);
        ++out.count;
      }
  return out;
}

#define NEED_FONT()                                                                                \
  if (find_fonts(font_folders()).empty()) {                                                        \
    ASSERT_FALSE(in_ci()) << "CI must have a font";                                                \
    GTEST_SKIP() << "no font on this machine: scripts/install_deps.sh installs fonts-dejavu-core"; \
  }                                                                                                \
  static_assert(true)

TEST(Draw, OutlineLiesInsideTheBoxAndIsThreePixelsWide) {
  const Image out = draw_boxes(grey(400, 300), std::vector<LabelledBox>{{100, 50, 199, 149, ""}});
  for (const auto& [x, y] : {std::pair<int64_t, int64_t>{100, 50}, {199, 149}, {150, 52}, {102, 100}, {197, 100}})
    EXPECT_EQ(pixel(out, x, y), kRed) << x << "," << y;
  for (const auto& [x, y] :
       {std::pair<int64_t, int64_t>{99, 50}, {200, 149}, {150, 53}, {103, 100}, {196, 100}, {150, 49}})
    EXPECT_EQ(pixel(out, x, y), kGrey) << x << "," << y;
}

TEST(Draw, ColoursFollowTheDemosListByTheRunningIndex) {
  std::vector<LabelledBox> boxes;
  for (int i = 0; i < 15; ++i) boxes.push_back({i * 20.0, 0, i * 20.0 + 10, 10, ""});
  boxes[1].x2 = -5;  // skipped, but counted
  const Image out = draw_boxes(grey(400, 20), boxes);
  EXPECT_EQ(pixel(out, 0, 0), kRed);
  EXPECT_EQ(pixel(out, 20, 0), kGrey);
  EXPECT_EQ(pixel(out, 40, 0), (Colour{0, 0, 255}));
  EXPECT_EQ(pixel(out, 120, 0), (Colour{127, 127, 127}));
  EXPECT_EQ(pixel(out, 240, 0), (Colour{255, 127, 127}));
  EXPECT_EQ(pixel(out, 260, 0), kRed);
  EXPECT_EQ(pixel(out, 280, 0), kGreen);
}

TEST(Draw, SkipsWhatIsNoBoxInThisPicture) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kHuge = std::numeric_limits<double>::infinity();
  const std::vector<LabelledBox> boxes = {{50, 10, 40, 20, "inverted"},     {10, 50, 20, 40, "inverted"},
                                          {kNan, 0, 10, 10, "nan"},         {0, 0, 10, kNan, "nan"},
                                          {100, 0, 200, 10, "right of it"}, {0, -50, 10, -1, "above it"},
                                          {kHuge, 0, kHuge, 10, "far"},     {-1e300, 0, -1e200, 10, "far"}};
  DrawReport report;
  const Image image = grey(100, 100);
  EXPECT_EQ(draw_boxes(image, boxes, {}, &report).rgb, image.rgb);
  EXPECT_EQ(report.boxes_skipped, boxes.size());
  EXPECT_EQ(report.boxes_drawn, 0u);
}

TEST(Draw, ClipsWhatLeavesThePicture) {
  constexpr double kHuge = std::numeric_limits<double>::infinity();
  DrawReport report;
  const Image out =
      draw_boxes(grey(400, 300), std::vector<LabelledBox>{{-kHuge, -1e300, 1e18, kHuge, ""}}, {}, &report);
  EXPECT_EQ(report.boxes_drawn, 1u);
  for (const auto& [x, y] : {std::pair<int64_t, int64_t>{0, 0}, {399, 299}, {2, 150}, {397, 150}, {200, 297}})
    EXPECT_EQ(pixel(out, x, y), kRed) << x << "," << y;
  EXPECT_EQ(pixel(out, 3, 150), kGrey);
}

TEST(Draw, ABoxThinnerThanItsOutlineIsFilled) {
  const Image out = draw_boxes(grey(400, 300), std::vector<LabelledBox>{{10, 10, 10, 10, ""}, {20, 10, 23, 100, ""}});
  EXPECT_EQ(pixel(out, 10, 10), kRed);
  EXPECT_EQ(pixel(out, 11, 10), kGrey);
  EXPECT_EQ(pixel(out, 23, 50), kGreen);
  EXPECT_EQ(pixel(out, 24, 50), kGrey);
}

TEST(Draw, WithoutAFontBoxesAreDrawnAndTheCallerIsTold) {
  DrawReport report;
  const Image out =
      draw_boxes(grey(400, 300), std::vector<LabelledBox>{{100, 50, 199, 149, "cat"}}, without_fonts(), &report);
  EXPECT_EQ(pixel(out, 100, 50), kRed);
  EXPECT_EQ(report.labels_left_out, 1u);
  EXPECT_NE(report.advice.find("fonts-dejavu-core"), std::string::npos) << report.advice;
}

TEST(Draw, AnUnreadableFontOfTheCallersIsAnError) {
  const TempFolder folder;
  write_file_atomic(folder / "broken.ttf", "this is no font");
  DrawOptions options;
  const std::vector<LabelledBox> boxes = {{0, 0, 10, 10, "cat"}};
  for (const char* name : {"broken.ttf", "absent.ttf"}) {
    options.font = folder / name;
    try {
      draw_boxes(grey(40, 40), boxes, options);
      ADD_FAILURE() << name << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
  }
  options.font.reset();
  options.font_folders = {folder.path()};  // the system's fonts are another matter: passed over
  DrawReport report;
  draw_boxes(grey(40, 40), boxes, options, &report);
  EXPECT_EQ(report.labels_left_out, 1u);
}

TEST(Draw, LabelStandsOnAPlateAboveTheBoxWithDarkInkOnABrightColour) {
  NEED_FONT();
  const Image before = grey(400, 300);
  DrawReport report;
  const Image out = draw_boxes(
      before, std::vector<LabelledBox>{{100, 100, 299, 199, ""}, {100, 100, 299, 199, "mouse"}}, {}, &report);
  EXPECT_EQ(report.labels_left_out, 0u);
  EXPECT_EQ(report.advice, "");
  const Changed area = changed(before, out);
  EXPECT_EQ(area.left, 100);
  EXPECT_EQ(area.right, 299);
  EXPECT_EQ(area.bottom, 199);
  EXPECT_GE(area.top, 100 - 36);
  EXPECT_LE(area.top, 100 - 20);
  EXPECT_EQ(pixel(out, 100, area.top), kGreen);
  EXPECT_EQ(pixel(out, 100, 99), kGreen);
  int64_t dark = 0;
  for (int64_t y = area.top; y < 100; ++y)
    for (int64_t x = 100; x < 200; ++x) dark += pixel(out, x, y) == Colour{0, 0, 0} ? 1 : 0;
  EXPECT_GT(dark, 40);
}

TEST(Draw, InkIsLightOnADarkPlate) {
  NEED_FONT();
  const Image out = draw_boxes(grey(400, 300), std::vector<LabelledBox>{{100, 100, 299, 199, "mouse"}});
  int64_t light = 0;
  for (int64_t y = 70; y < 100; ++y)
    for (int64_t x = 100; x < 200; ++x) light += pixel(out, x, y) == Colour{255, 255, 255} ? 1 : 0;
  EXPECT_GT(light, 40);
}

TEST(Draw, LabelStaysWhollyInsideThePictureAtEveryEdge) {
  NEED_FONT();
  const Image before = grey(400, 300);
  const std::vector<LabelledBox> plate_only = {{200, 150, 200, 150, "giraffe"}};
  const Changed free = changed(before, draw_boxes(before, plate_only));
  for (const double x : {0.0, 1.0, 390.0, 399.0})
    for (const double y : {0.0, 5.0, 150.0, 299.0}) {
      DrawReport report;
      const Image out = draw_boxes(before, std::vector<LabelledBox>{{x, y, x, y, "giraffe"}}, {}, &report);
      EXPECT_EQ(report.labels_left_out, 0u);
      const Changed area = changed(before, out);
      // The plate is as large as in the middle of the picture, so nothing of it was cut off.
      EXPECT_GE(area.right - area.left, free.right - free.left) << x << "," << y;
      EXPECT_GE(area.bottom - area.top + 1, free.bottom - free.top) << x << "," << y;
    }
}

TEST(Draw, LabelsOfBoxesAtOnePlaceDoNotHideEachOther) {
  NEED_FONT();
  const Image out =
      draw_boxes(grey(400, 300), std::vector<LabelledBox>{{100, 100, 250, 250, "one"}, {100, 100, 250, 250, "two"}});
  EXPECT_EQ(pixel(out, 100, 99), kRed);     // above the box
  EXPECT_EQ(pixel(out, 104, 104), kGreen);  // inside it
}

TEST(Draw, ALongLabelEndsInAnEllipsisInsideThePicture) {
  NEED_FONT();
  const Image before = grey(200, 100);
  DrawReport report;
  const std::string label(100'000, 'w');
  const Image out = draw_boxes(before, std::vector<LabelledBox>{{150, 60, 160, 70, label}}, {}, &report);
  EXPECT_EQ(report.labels_left_out, 0u);
  const Changed area = changed(before, out);
  EXPECT_LT(area.left, 30);
  EXPECT_GT(area.right, 170);
}

TEST(Draw, TheSmallestPicturesTakeBoxesButNoLabels) {
  for (const auto& [width, height] : {std::pair<int64_t, int64_t>{1, 1}, {1, 50}, {50, 1}, {8, 8}}) {
    DrawReport report;
    const Image out = draw_boxes(grey(width, height), std::vector<LabelledBox>{{0, 0, 100, 100, "label"}}, {}, &report);
    EXPECT_EQ(pixel(out, 0, 0), kRed);
    EXPECT_EQ(report.labels_left_out, 1u) << width << " x " << height;
  }
}

TEST(Draw, LinesAndLabelsGrowWithLargePictures) {
  NEED_FONT();
  const std::vector<LabelledBox> boxes = {{1000, 1000, 2000, 2000, "cat"}};
  const Image before = grey(3600, 2400);
  const Image out = draw_boxes(before, boxes);
  EXPECT_EQ(pixel(out, 1500, 1008), kRed);
  EXPECT_EQ(pixel(out, 1500, 1009), kGrey);
  EXPECT_LT(changed(before, out).top, 1000 - 60);
}

TEST(Draw, TextOfAnyScriptAndBrokenTextAreDrawnWithoutHarm) {
  NEED_FONT();
  const Image before = grey(300, 200);
  for (const char* label : {"长颈鹿",
                            "キリン",
                            "기린",
                            "زرافة",
                            "ג'ירפה 42",
                            "जिराफ़",
                            "e\u0301\u0302\u0303\u0304\u0305",
                            "\u0301",
                            "\u200d\u200d",
                            "👩‍👩‍👧 family",
                            "a\tb\nc",
                            "\x01\x02",
                            "\xff\xfe\xc3",
                            "\xf4\x90\x80\x80",
                            "\xed\xa0\x80",
                            "Ⅷ ½ ﷽",
                            "mixed 猫 and قط 7",
                            "\u202e reversed \u202c",
                            "\ufeff",
                            "\U0010ffff"}) {
    DrawReport report;
    EXPECT_NO_THROW(draw_boxes(before, std::vector<LabelledBox>{{40, 90, 260, 180, label}}, {}, &report)) << label;
    EXPECT_EQ(report.boxes_drawn, 1u);
  }
  for (const char* blank : {" ", "\n\t ", ""}) {
    DrawReport report;
    draw_boxes(before, std::vector<LabelledBox>{{40, 90, 260, 180, blank}}, {}, &report);
    EXPECT_EQ(report.advice, "");
  }
}

TEST(Draw, RandomBytesAsLabelsAreDrawnWithoutHarm) {
  NEED_FONT();
  std::mt19937 random(5);
  for (int round = 0; round < 50; ++round) {
    std::vector<LabelledBox> boxes(3);
    for (LabelledBox& box : boxes) {
      box = {static_cast<double>(random() % 120) - 10, static_cast<double>(random() % 90) - 10,
             static_cast<double>(random() % 150), static_cast<double>(random() % 100), ""};
      for (size_t i = random() % 40; i > 0; --i) box.label.push_back(static_cast<char>(random() % 256));
    }
    EXPECT_NO_THROW(draw_boxes(grey(100, 80), boxes));
  }
}

TEST(Draw, TheSameBoxesGiveTheSamePixels) {
  const std::vector<LabelledBox> boxes = {{10, 40, 100, 90, "cat 猫"}, {60, 50, 290, 190, "dog قط"}};
  EXPECT_EQ(draw_boxes(grey(300, 200), boxes).rgb, draw_boxes(grey(300, 200), boxes).rgb);
}

TEST(Draw, NoBoxesGiveTheSamePicture) {
  const Image image = grey(30, 20);
  DrawReport report;
  EXPECT_EQ(draw_boxes(image, {}, {}, &report).rgb, image.rgb);
  EXPECT_EQ(report.boxes_drawn + report.boxes_skipped + report.labels_left_out, 0u);
}

}  // namespace
}  // namespace vl2

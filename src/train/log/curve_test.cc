#include "train/log/curve.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/temp_folder.h"
#include "core/image/decode.h"
#include "core/image/encode.h"

namespace vl2::train {
namespace {

LogSeries falling(const std::string& name, int64_t steps, double scale, uint64_t seed) {
  LogSeries series;
  series.name = name;
  Random random(seed);
  for (int64_t i = 1; i <= steps; ++i) {
    const double t = static_cast<double>(i);
    series.steps.push_back(t);
    series.values.push_back(scale * (0.4 + 3 * std::exp(-t / (0.2 * static_cast<double>(steps)))) *
                            (1 + 0.12 * static_cast<double>(random.normal())));
  }
  return series;
}

bool is_near(const uint8_t* pixel, int red, int green, int blue) {
  return std::abs(pixel[0] - red) < 40 && std::abs(pixel[1] - green) < 40 && std::abs(pixel[2] - blue) < 40;
}

// Rows of a column that show the strong line of the first series.
std::vector<int64_t> blue_rows(const Image& image, int64_t x) {
  std::vector<int64_t> rows;
  for (int64_t y = 0; y < image.height; ++y)
    if (is_near(image.row(y) + 3 * x, 0, 105, 180)) rows.push_back(y);
  return rows;
}

TEST(Smoothed, IsTheMeanWithWeightsThatFade) {
  const std::vector<double> out = smoothed(std::vector<double>{2, 4, 8}, 0.5);
  EXPECT_DOUBLE_EQ(out[0], 2);
  EXPECT_DOUBLE_EQ(out[1], (0.5 * 2 + 4) / 1.5);
  EXPECT_DOUBLE_EQ(out[2], (0.25 * 2 + 0.5 * 4 + 8) / 1.75);
  EXPECT_EQ(smoothed(std::vector<double>{3, 1}, 0), (std::vector<double>{3, 1}));
}

TEST(NiceTicks, AreRoundAndInside) {
  EXPECT_EQ(nice_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  const std::vector<double> ticks = nice_ticks(0.13, 0.87, 6);
  ASSERT_GE(ticks.size(), 5u);
  EXPECT_GE(ticks.front(), 0.13);
  EXPECT_LE(ticks.back(), 0.87);
  EXPECT_EQ(tick_text(ticks.front(), ticks[1] - ticks[0]), "0.2");
  EXPECT_FALSE(std::signbit(nice_ticks(0, 1, 5).front()));
  EXPECT_TRUE(nice_ticks(1, 1, 5).empty());
  EXPECT_TRUE(nice_ticks(0, std::numeric_limits<double>::infinity(), 5).empty());
}

TEST(TickText, HasTheDigitsThatTheDistanceNeeds) {
  EXPECT_EQ(tick_text(2, 1), "2");
  EXPECT_EQ(tick_text(0.30000000000000004, 0.1), "0.3");
  EXPECT_EQ(tick_text(0.25, 0.05), "0.25");
  EXPECT_EQ(tick_text(-0.0, 0.5), "0.0");
  EXPECT_EQ(tick_text(2e-5, 1e-5), "2.0e-05");
}

TEST(DrawCurves, AFallingLossFallsInThePicture) {
  CurveOptions options;
  const std::vector<LogSeries> series = {falling("", 2000, 1, 3)};
  const Image image = draw_curves(series, options);
  ASSERT_EQ(image.width, 960);
  ASSERT_EQ(image.height, 540);
  const std::vector<int64_t> early = blue_rows(image, 120), late = blue_rows(image, 900);
  ASSERT_FALSE(early.empty());
  ASSERT_FALSE(late.empty());
  EXPECT_LT(early.back() + 100, late.front());  // rows count downwards
}

TEST(DrawCurves, TheLineStandsWhereItsValueIs) {
  LogSeries constant;
  for (int i = 0; i <= 100; ++i) constant.steps.push_back(i), constant.values.push_back(i < 50 ? 0.0 : 10.0);
  CurveOptions options;
  options.smoothing = 0;
  const Image image = draw_curves(std::vector<LogSeries>{constant}, options);
  const std::vector<int64_t> low = blue_rows(image, 250), high = blue_rows(image, 800);
  ASSERT_FALSE(low.empty());
  ASSERT_FALSE(high.empty());
  EXPECT_NEAR(static_cast<double>(low.back()), 540 - 52, 3);                          // on the axis
  EXPECT_NEAR(static_cast<double>(high.front()), 58 + (540 - 110) * 0.04 / 1.04, 3);  // a margin below the top
  EXPECT_LE(low.size(), 5u);
}

TEST(DrawCurves, ManyPointsKeepTheirSpikesAndDrawQuickly) {
  LogSeries series = falling("", 300000, 1, 4);
  for (size_t i = 200000; i < 208000; i += 2) series.values[i] = 3;  // more than a hundredth: within the axis
  CurveOptions options;
  options.smoothing = 0;
  const Image image = draw_curves(std::vector<LogSeries>{series}, options);
  const auto rows = blue_rows(image, 60 + 880 * 2 / 3);
  ASSERT_FALSE(rows.empty());
  EXPECT_GT(rows.back() - rows.front(), 200);
}

TEST(DrawCurves, WhatCannotBeDrawnIsLeftOutOrRefused) {
  LogSeries strange;
  strange.steps = {1, 2, 3, 4};
  strange.values = {1, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 1};
  EXPECT_NO_THROW(draw_curves(std::vector<LogSeries>{strange, LogSeries{}}, {}));
  CurveOptions log_scale;
  log_scale.log_y = true;
  LogSeries one;
  one.steps = {7};
  one.values = {1e-3};
  EXPECT_NO_THROW(draw_curves(std::vector<LogSeries>{one}, log_scale));
  one.values = {-1};
  EXPECT_THROW(draw_curves(std::vector<LogSeries>{one}, log_scale), Error);
  EXPECT_THROW(draw_curves({}, {}), Error);
  CurveOptions bad;
  bad.width = 10;
  EXPECT_THROW(draw_curves(std::vector<LogSeries>{one}, bad), Error);
  bad = {};
  bad.smoothing = 1;
  EXPECT_THROW(draw_curves(std::vector<LogSeries>{one}, bad), Error);
}

TEST(SaveCurves, ReadsLogsAndNamesThemAfterTheirFolders) {
  const TempFolder temp;
  std::vector<std::filesystem::path> logs;
  for (const char* run : {"a", "b"}) {
    std::filesystem::create_directories(temp / run);
    logs.push_back(temp.path() / run / "log.jsonl");
    JsonLog log(logs.back(), 0);
    for (int step = 1; step < 40; ++step) log.write({{"step", step}, {"loss", 1.0 / step}});
  }
  save_curves(logs, "loss", temp / "curve.png", {});
  EXPECT_EQ(load_image(temp / "curve.png").width, 960);
  EXPECT_THROW(save_curves(logs, "los", temp / "no.png", {}), Error);
  EXPECT_FALSE(std::filesystem::exists(temp / "no.png"));
}

// Not a check: VL2_SAVE_CURVE=FILE.png writes a picture to look at.
TEST(DrawCurves, ManySeriesHaveALegend) {
  CurveOptions options;
  options.title = "nano, three stages";
  options.y_label = "loss";
  options.log_y = std::getenv("VL2_CURVE_LOG") != nullptr;
  const std::vector<LogSeries> series = {falling("alignment", 1500, 1.2, 1), falling("pre-training", 4000, 0.8, 2),
                                         falling("SFT", 2500, 0.5, 3)};
  const Image image = draw_curves(series, options);
  int64_t orange = 0, green = 0;
  for (int64_t y = 0; y < image.height; ++y)
    for (int64_t x = 0; x < image.width; ++x) {
      orange += is_near(image.row(y) + 3 * x, 222, 112, 0) ? 1 : 0;
      green += is_near(image.row(y) + 3 * x, 0, 140, 95) ? 1 : 0;
    }
  EXPECT_GT(orange, 800);
  EXPECT_GT(green, 400);
  if (const char* file = std::getenv("VL2_SAVE_CURVE")) save_image(file, image);
}

}  // namespace
}  // namespace vl2::train

#include "data/synth/canvas.h"

#include <gtest/gtest.h>

#include <cmath>

#include "data/synth/shapes.h"

namespace vl2::data::synth {
namespace {

constexpr Colour kBlack{0, 0, 0};

// How much of the picture is black, in pixels.
double ink(const Image& image) {
  double sum = 0;
  for (size_t i = 0; i < image.rgb.size(); i += 3) sum += (255 - image.rgb[i]) / 255.0;
  return sum;
}

TEST(Canvas, AShapeInksAsManyPixelsAsItsOutlineEncloses) {
  for (size_t i = 0; i < kNumShapes; ++i) {
    Image image = make_image(80, 80, 255, 255, 255);
    const std::vector<Contour> outline = outline_of(shape_at(i), {39.3, 40.7}, 61.7);
    fill_contours(image, outline, kBlack);
    // Each pixel on the outline is rounded to 1/255: some 400 of them, half a step each, whatever the signs.
    EXPECT_NEAR(ink(image), area_of(outline), 400 * 0.5 / 255) << name_of(shape_at(i)).one;
  }
}

TEST(Canvas, InkTouchesTheBoundsOnEverySideAndNothingLiesOutside) {
  for (size_t i = 0; i < kNumShapes; ++i) {
    Image image = make_image(60, 60, 255, 255, 255);
    const std::vector<Contour> outline = outline_of(shape_at(i), {30.25, 29.75}, 41.5);
    const PixelBox box = bounds_of(outline);
    fill_contours(image, outline, kBlack);
    PixelBox seen{60, 60, 0, 0};
    for (int64_t y = 0; y < 60; ++y)
      for (int64_t x = 0; x < 60; ++x)
        if (image.row(y)[3 * x] < 255) {
          seen.x1 = std::min(seen.x1, static_cast<double>(x));
          seen.y1 = std::min(seen.y1, static_cast<double>(y));
          seen.x2 = std::max(seen.x2, static_cast<double>(x + 1));
          seen.y2 = std::max(seen.y2, static_cast<double>(y + 1));
        }
    // A tip may cover less than 1/510 of its last pixel; that pixel then is not seen.
    const auto touches = [&](double inner, double outer) { return inner <= outer && outer - inner < 2; };
    EXPECT_TRUE(touches(box.x2, seen.x2) || touches(seen.x2, box.x2)) << name_of(shape_at(i)).one;
    EXPECT_TRUE(touches(box.y2, seen.y2) || touches(seen.y2, box.y2)) << name_of(shape_at(i)).one;
    EXPECT_LE(std::floor(box.x1), seen.x1);
    EXPECT_LE(std::floor(box.y1), seen.y1);
    EXPECT_LT(seen.x1 - box.x1, 1.5);
    EXPECT_LT(seen.y1 - box.y1, 1.5);
    EXPECT_GE(std::ceil(box.x2), seen.x2);
    EXPECT_GE(std::ceil(box.y2), seen.y2);
  }
}

TEST(Canvas, ABoxOnPixelEdgesIsFilledWithoutSoftEdges) {
  Image image = make_image(10, 10, 255, 255, 255);
  fill_box(image, {2, 3, 7, 8}, kBlack);
  EXPECT_DOUBLE_EQ(ink(image), 25);
  EXPECT_EQ(image.row(3)[3 * 2], 0);
  EXPECT_EQ(image.row(2)[3 * 2], 255);
}

TEST(Canvas, WhatLeavesThePictureIsClipped) {
  Image image = make_image(10, 10, 255, 255, 255);
  fill_box(image, {-5, -5, 3, 3}, kBlack);
  fill_box(image, {20, 20, 30, 30}, kBlack);
  fill_contours(image, outline_of(Shape::kRing, {10, 10}, 4), kBlack);
  EXPECT_EQ(image.row(0)[0], 0);
  EXPECT_EQ(image.row(2)[3 * 2], 0);
  EXPECT_EQ(image.row(3)[3 * 3], 255);
  TextMask mask{4, 4, std::vector<uint8_t>(16, 255), std::nullopt};
  draw_mask(image, mask, -2, 8, kBlack);
  draw_mask(image, mask, 50, 50, kBlack);
  EXPECT_EQ(image.row(9)[3], 0);
}

TEST(Canvas, AMaskIsOnlyAsLargeAsItsInk) {
  TextMask mask{5, 4, std::vector<uint8_t>(20, 0), std::nullopt};
  mask.coverage[1 * 5 + 2] = 200;
  mask.coverage[2 * 5 + 3] = 64;
  mask.coverage[3 * 5 + 4] = 63;  // a trace
  const PixelBox ink_box = ink_of(mask);
  EXPECT_EQ(ink_box.x1, 2);
  EXPECT_EQ(ink_box.y1, 1);
  EXPECT_EQ(ink_box.x2, 4);
  EXPECT_EQ(ink_box.y2, 3);
  EXPECT_EQ(ink_of(TextMask{}).x2, 0);
}

TEST(Canvas, BackdropsStayNearTheirColour) {
  for (const Backdrop kind : {Backdrop::kPlain, Backdrop::kGradient, Backdrop::kNoise, Backdrop::kStripes})
    for (uint64_t seed = 0; seed < 8; ++seed) {
      Draws draws(seed);
      const Colour base = backdrop_colour(seed % 2 == 1, draws);
      Image image = make_image(50, 40, 0, 0, 0);
      paint_backdrop(image, kind, base, draws);
      bool varied = false;
      for (size_t i = 0; i < image.rgb.size(); i += 3) {
        EXPECT_LE(std::abs(image.rgb[i] - base.red), 16);
        EXPECT_LE(std::abs(image.rgb[i + 1] - base.green), 16);
        EXPECT_LE(std::abs(image.rgb[i + 2] - base.blue), 16);
        varied = varied || image.rgb[i] != base.red;
      }
      EXPECT_EQ(varied, kind != Backdrop::kPlain) << static_cast<int>(kind);
    }
}

}  // namespace
}  // namespace vl2::data::synth

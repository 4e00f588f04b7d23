#include "data/synth/shapes.h"

#include <algorithm>
#include <cmath>

namespace vl2::data::synth {
namespace {

constexpr double kTurn = 6.283185307179586;
constexpr std::array<ShapeName, kNumShapes> kShapes = {{{"circle", "circles", "圆形"},
                                                        {"square", "squares", "正方形"},
                                                        {"triangle", "triangles", "三角形"},
                                                        {"star", "stars", "星形"},
                                                        {"diamond", "diamonds", "菱形"},
                                                        {"heart", "hearts", "心形"},
                                                        {"cross", "crosses", "十字"},
                                                        {"ring", "rings", "圆环"}}};
constexpr std::array<PaintName, kNumPaints> kPaints = {{{"red", "红色"},
                                                        {"green", "绿色"},
                                                        {"blue", "蓝色"},
                                                        {"yellow", "黄色"},
                                                        {"purple", "紫色"},
                                                        {"orange", "橙色"},
                                                        {"black", "黑色"},
                                                        {"pink", "粉色"},
                                                        {"brown", "棕色"},
                                                        {"white", "白色"}}};
constexpr std::array<Colour, kNumPaints> kColours = {{{218, 38, 38},
                                                      {36, 156, 62},
                                                      {36, 82, 214},
                                                      {238, 206, 24},
                                                      {134, 44, 176},
                                                      {244, 136, 20},
                                                      {22, 22, 22},
                                                      {248, 132, 190},
                                                      {126, 78, 40},
                                                      {248, 248, 248}}};

Contour round_contour(Point centre, double radius, bool reversed) {
  constexpr int kCorners = 96;  // a multiple of four: the outline touches its box on all sides
  Contour contour;
  for (int i = 0; i < kCorners; ++i) {
    const double angle = kTurn * (reversed ? kCorners - i : i) / kCorners;
    contour.push_back({centre.x + radius * std::cos(angle), centre.y + radius * std::sin(angle)});
  }
  return contour;
}

Contour star_contour(Point centre, double radius) {
  Contour contour;
  for (int i = 0; i < 10; ++i) {
    const double r = i % 2 == 0 ? radius : 0.42 * radius, angle = kTurn * (i / 10.0 - 0.25);
    contour.push_back({centre.x + r * std::cos(angle), centre.y + r * std::sin(angle)});
  }
  return contour;
}

// The curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t, scaled to the box's width.
Contour heart_contour(Point centre, double radius) {
  Contour contour;
  for (int i = 0; i < 64; ++i) {
    const double t = kTurn * i / 64, s = std::sin(t);
    const double y = 13 * std::cos(t) - 5 * std::cos(2 * t) - 2 * std::cos(3 * t) - std::cos(4 * t);
    contour.push_back({centre.x + radius * s * s * s, centre.y - radius * (y + 2.5) / 16});
  }
  return contour;
}

Contour cross_contour(Point c, double r) {
  const double a = 0.36 * r;
  return {{c.x - a, c.y - r}, {c.x + a, c.y - r}, {c.x + a, c.y - a}, {c.x + r, c.y - a},
          {c.x + r, c.y + a}, {c.x + a, c.y + a}, {c.x + a, c.y + r}, {c.x - a, c.y + r},
          {c.x - a, c.y + a}, {c.x - r, c.y + a}, {c.x - r, c.y - a}, {c.x - a, c.y - a}};
}

}  // namespace

const ShapeName& name_of(Shape shape) { return kShapes[static_cast<size_t>(shape)]; }
const PaintName& name_of(Paint paint) { return kPaints[static_cast<size_t>(paint)]; }
Shape shape_at(size_t index) { return static_cast<Shape>(index); }
Paint paint_at(size_t index) { return static_cast<Paint>(index); }

std::string with_article(std::string_view phrase) {
  const bool vowel = std::string_view("aeiou").find(phrase.front()) != std::string_view::npos;
  return std::string(vowel ? "an " : "a ").append(phrase);
}

std::vector<Contour> outline_of(Shape shape, Point c, double size) {
  const double r = size / 2;
  switch (shape) {
    case Shape::kCircle:
      return {round_contour(c, r, false)};
    case Shape::kSquare:
      return {{{c.x - r, c.y - r}, {c.x + r, c.y - r}, {c.x + r, c.y + r}, {c.x - r, c.y + r}}};
    case Shape::kTriangle:
      return {{{c.x, c.y - r}, {c.x + r, c.y + r}, {c.x - r, c.y + r}}};
    case Shape::kStar:
      return {star_contour(c, r)};
    case Shape::kDiamond:
      return {{{c.x, c.y - r}, {c.x + 0.72 * r, c.y}, {c.x, c.y + r}, {c.x - 0.72 * r, c.y}}};
    case Shape::kHeart:
      return {heart_contour(c, r)};
    case Shape::kCross:
      return {cross_contour(c, r)};
    case Shape::kRing:
      return {round_contour(c, r, false), round_contour(c, 0.55 * r, true)};
  }
  return {};
}

Colour mix_paint(Paint paint, Draws& draws) {
  Colour c = kColours[static_cast<size_t>(paint)];
  for (uint8_t* channel : {&c.red, &c.green, &c.blue})
    *channel = static_cast<uint8_t>(std::clamp<int64_t>(*channel + draws.between(-12, 12), 0, 255));
  return c;
}

std::vector<Paint> paints_on(bool dark) {
  std::vector<Paint> paints;
  for (size_t i = 0; i < kNumPaints; ++i) {
    const Paint paint = paint_at(i);
    const bool hidden = dark ? paint == Paint::kBlack || paint == Paint::kBrown : paint == Paint::kWhite;
    if (!hidden) paints.push_back(paint);
  }
  return paints;
}

Colour backdrop_colour(bool dark, Draws& draws) {
  const int64_t low = dark ? 20 : 218, high = dark ? 58 : 252;
  const int64_t grey = draws.between(low, high);
  Colour c;
  for (uint8_t* channel : {&c.red, &c.green, &c.blue})
    *channel = static_cast<uint8_t>(std::clamp<int64_t>(grey + draws.between(-12, 12), low, high));
  return c;
}

}  // namespace vl2::data::synth

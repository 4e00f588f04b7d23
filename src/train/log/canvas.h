// A picture under construction: smooth lines, rectangles and text, composed over what is there.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "core/image/image.h"
#include "core/image/text_renderer.h"

namespace vl2::train {

using Colour = std::array<uint8_t, 3>;
using Point = std::pair<double, double>;  // pixels, x to the right, y down

struct Area {
  double left = 0, top = 0, right = 0, bottom = 0;
};

enum class Align { kLeft, kCentre, kRight };

// Owns picture and fonts. One thread.
class Canvas {
 public:
  Canvas(int64_t width, int64_t height, const Colour& background);

  void rectangle(const Area& area, const Colour& colour);  // whole pixels
  // One line through all points, clipped to the area; where it crosses itself it is no darker. opacity 0 to 1.
  void line(std::span<const Point> points, double thickness, const Colour& colour, double opacity, const Area& clip);
  // The line's left edge, middle or right edge at x, its middle height at y. The width it took.
  int64_t text(std::string_view text, double x, double y, int64_t size, const Colour& colour, Align align);
  int64_t text_width(std::string_view text, int64_t size);

  Image take() { return std::move(image_); }

 private:
  void blend(int64_t x, int64_t y, const Colour& colour, double opacity);

  Image image_;
  TextRenderer renderer_;
};

}  // namespace vl2::train

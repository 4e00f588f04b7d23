#include "data/synth/canvas.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vl2::data::synth {
namespace {

uint8_t mix(uint8_t from, uint8_t to, int coverage) {
  return static_cast<uint8_t>((from * (255 - coverage) + to * coverage + 127) / 255);
}

void blend(uint8_t* pixel, Colour colour, int coverage) {
  pixel[0] = mix(pixel[0], colour.red, coverage);
  pixel[1] = mix(pixel[1], colour.green, coverage);
  pixel[2] = mix(pixel[2], colour.blue, coverage);
}

uint8_t shifted(uint8_t value, int by) { return static_cast<uint8_t>(std::clamp(value + by, 0, 255)); }

Colour shifted(Colour c, int by) { return {shifted(c.red, by), shifted(c.green, by), shifted(c.blue, by)}; }

void set(uint8_t* pixel, Colour c) {
  pixel[0] = c.red;
  pixel[1] = c.green;
  pixel[2] = c.blue;
}

// Signed areas of an outline, as differences along each row: their running sum is the coverage.
class AreaBuffer {
 public:
  AreaBuffer(int64_t left, int64_t top, int64_t width, int64_t height)
      : left_(left), top_(top), width_(width), cells_(static_cast<size_t>((width + 2) * height)) {}

  void add_edge(Point a, Point b) {
    if (a.y == b.y) return;
    const double sign = a.y < b.y ? 1 : -1;
    if (a.y > b.y) std::swap(a, b);
    const double slope = (b.x - a.x) / (b.y - a.y);
    const auto first = static_cast<int64_t>(std::floor(a.y)), last = static_cast<int64_t>(std::ceil(b.y)) - 1;
    for (int64_t y = first; y <= last; ++y) {
      const double y0 = std::max(a.y, static_cast<double>(y)), y1 = std::min(b.y, static_cast<double>(y + 1));
      if (y1 > y0) add_in_row(y, a.x + (y0 - a.y) * slope, a.x + (y1 - a.y) * slope, sign * (y1 - y0));
    }
  }

  const double* row(int64_t y) const { return cells_.data() + (y - top_) * (width_ + 2); }

 private:
  // A piece of an edge inside of one row: split where it passes from one pixel to the next.
  void add_in_row(int64_t y, double x0, double x1, double height) {
    if (x0 > x1) std::swap(x0, x1);
    const double length = x1 - x0;
    double* cells = cells_.data() + (y - top_) * (width_ + 2);
    double x = x0;
    do {
      const double column = std::floor(x);
      const double next = std::min(x1, column + 1);
      const double part = length > 0 ? height * (next - x) / length : height;
      const double inside = 0.5 * (x + next) - column;  // how far right of the pixel's left side
      const auto i = static_cast<int64_t>(column) - left_;
      cells[i] += part * (1 - inside);
      cells[i + 1] += part * inside;
      x = next;
    } while (x < x1);
  }

  int64_t left_, top_, width_;
  std::vector<double> cells_;
};

void paint_noise(Image& image, Colour base, Draws& draws) {
  // Single pixels, few and faint: they cost little in a PNG and do not hide small print.
  const auto specks = static_cast<int64_t>(0.04 * static_cast<double>(image.width * image.height));
  const int strength = static_cast<int>(draws.between(5, 14));
  for (int64_t i = 0; i < specks; ++i) {
    const uint64_t bits = draws.bits();
    const auto x = static_cast<int64_t>((bits & 0xffffffff) % static_cast<uint64_t>(image.width));
    const auto y = static_cast<int64_t>((bits >> 33) % static_cast<uint64_t>(image.height));
    set(image.row(y) + 3 * x, shifted(base, (bits >> 32 & 1) != 0 ? strength : -strength));
  }
}

void paint_gradient(Image& image, Colour base, Draws& draws) {
  const double angle = draws.real(0, 6.283185307179586);
  const double dx = std::cos(angle), dy = std::sin(angle);
  const double across =
      std::abs(dx) * static_cast<double>(image.width) + std::abs(dy) * static_cast<double>(image.height);
  for (int64_t y = 0; y < image.height; ++y)
    for (int64_t x = 0; x < image.width; ++x) {
      const double at = (dx * (static_cast<double>(x) - static_cast<double>(image.width) / 2) +
                         dy * (static_cast<double>(y) - static_cast<double>(image.height) / 2)) /
                        across;  // -0.5 to 0.5
      set(image.row(y) + 3 * x, shifted(base, static_cast<int>(std::lround(at * 32))));
    }
}

void paint_stripes(Image& image, Colour base, Draws& draws) {
  const int64_t period = draws.between(8, 28);
  const int strength = static_cast<int>(draws.between(5, 14));
  const int64_t direction = draws.between(0, 2);
  const Colour other = shifted(base, base.green > 128 ? -strength : strength);
  for (int64_t y = 0; y < image.height; ++y)
    for (int64_t x = 0; x < image.width; ++x) {
      const int64_t at = direction == 0 ? x : direction == 1 ? y : x + y;
      if (at / period % 2 == 1) set(image.row(y) + 3 * x, other);
    }
}

}  // namespace

PixelBox bounds_of(std::span<const Contour> contours) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  PixelBox box{kInfinity, kInfinity, -kInfinity, -kInfinity};
  for (const Contour& contour : contours)
    for (const Point& p : contour) {
      box.x1 = std::min(box.x1, p.x);
      box.y1 = std::min(box.y1, p.y);
      box.x2 = std::max(box.x2, p.x);
      box.y2 = std::max(box.y2, p.y);
    }
  return box;
}

double area_of(std::span<const Contour> contours) {
  double twice = 0;
  for (const Contour& contour : contours)
    for (size_t i = 0; i < contour.size(); ++i) {
      const Point &a = contour[i], &b = contour[(i + 1) % contour.size()];
      twice += a.x * b.y - b.x * a.y;
    }
  return std::abs(twice) / 2;
}

void fill_contours(Image& image, std::span<const Contour> contours, Colour colour) {
  const PixelBox box = bounds_of(contours);
  if (!(box.x1 < box.x2 && box.y1 < box.y2)) return;
  const auto left = static_cast<int64_t>(std::floor(box.x1)), top = static_cast<int64_t>(std::floor(box.y1));
  const int64_t right = static_cast<int64_t>(std::ceil(box.x2)) + 1,
                bottom = static_cast<int64_t>(std::ceil(box.y2)) + 1;
  AreaBuffer areas(left, top, right - left, bottom - top);
  for (const Contour& contour : contours)
    for (size_t i = 0; i < contour.size(); ++i) areas.add_edge(contour[i], contour[(i + 1) % contour.size()]);
  for (int64_t y = std::max<int64_t>(0, top); y < std::min(bottom, image.height); ++y) {
    const double* row = areas.row(y);
    double sum = 0;
    for (int64_t x = left; x < std::min(right, image.width); ++x) {
      sum += row[x - left];
      const int coverage = static_cast<int>(std::lround(255 * std::min(1.0, std::abs(sum))));
      if (coverage > 0 && x >= 0) blend(image.row(y) + 3 * x, colour, coverage);
    }
  }
}

void fill_box(Image& image, const PixelBox& box, Colour colour) {
  const Contour contour = {{box.x1, box.y1}, {box.x2, box.y1}, {box.x2, box.y2}, {box.x1, box.y2}};
  fill_contours(image, {&contour, 1}, colour);
}

PixelBox ink_of(const TextMask& mask) {
  int64_t left = mask.width, top = mask.height, right = 0, bottom = 0;
  for (int64_t y = 0; y < mask.height; ++y)
    for (int64_t x = 0; x < mask.width; ++x)
      if (mask.coverage[static_cast<size_t>(y * mask.width + x)] >= 64) {
        left = std::min(left, x);
        top = std::min(top, y);
        right = std::max(right, x + 1);
        bottom = std::max(bottom, y + 1);
      }
  if (right <= left) return {};
  return {static_cast<double>(left), static_cast<double>(top), static_cast<double>(right), static_cast<double>(bottom)};
}

void draw_mask(Image& image, const TextMask& mask, int64_t left, int64_t top, Colour colour) {
  for (int64_t y = std::max<int64_t>(0, -top); y < std::min(mask.height, image.height - top); ++y)
    for (int64_t x = std::max<int64_t>(0, -left); x < std::min(mask.width, image.width - left); ++x) {
      const int coverage = mask.coverage[static_cast<size_t>(y * mask.width + x)];
      if (coverage > 0) blend(image.row(top + y) + 3 * (left + x), colour, coverage);
    }
}

void paint_backdrop(Image& image, Backdrop kind, Colour base, Draws& draws) {
  for (int64_t x = 0; x < image.width; ++x) set(image.row(0) + 3 * x, base);
  for (int64_t y = 1; y < image.height; ++y) std::copy_n(image.row(0), image.row_bytes(), image.row(y));
  if (kind == Backdrop::kGradient) paint_gradient(image, base, draws);
  if (kind == Backdrop::kNoise) paint_noise(image, base, draws);
  if (kind == Backdrop::kStripes) paint_stripes(image, base, draws);
}

}  // namespace vl2::data::synth

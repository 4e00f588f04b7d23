#include "train/log/canvas.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "core/image/fonts.h"

namespace vl2::train {
namespace {

double distance_to_segment(double x, double y, const Point& a, const Point& b) {
  const double dx = b.first - a.first, dy = b.second - a.second;
  const double length = dx * dx + dy * dy;
  const double t = length > 0 ? std::clamp(((x - a.first) * dx + (y - a.second) * dy) / length, 0.0, 1.0) : 0.0;
  return std::hypot(x - a.first - t * dx, y - a.second - t * dy);
}

}  // namespace

Canvas::Canvas(int64_t width, int64_t height, const Colour& background)
    : image_(make_image(width, height, background[0], background[1], background[2])),
      renderer_(std::nullopt, font_folders()) {}

void Canvas::blend(int64_t x, int64_t y, const Colour& colour, double opacity) {
  uint8_t* pixel = image_.row(y) + 3 * x;
  for (size_t c = 0; c < 3; ++c)
    pixel[c] =
        static_cast<uint8_t>(std::lround(pixel[c] + (double{static_cast<double>(colour[c])} - pixel[c]) * opacity));
}

void Canvas::rectangle(const Area& area, const Colour& colour) {
  const auto left = std::max<int64_t>(0, std::llround(area.left)), top = std::max<int64_t>(0, std::llround(area.top));
  const auto right = std::min(image_.width, static_cast<int64_t>(std::llround(area.right)));
  const auto bottom = std::min(image_.height, static_cast<int64_t>(std::llround(area.bottom)));
  for (int64_t y = top; y < bottom; ++y)
    for (int64_t x = left; x < right; ++x) blend(x, y, colour, 1);
}

void Canvas::line(std::span<const Point> points, double thickness, const Colour& colour, double opacity,
                  const Area& clip) {
  const auto left = static_cast<int64_t>(std::max(0.0, clip.left)), top = static_cast<int64_t>(std::max(0.0, clip.top));
  const int64_t right = std::min(image_.width, static_cast<int64_t>(clip.right));
  const int64_t bottom = std::min(image_.height, static_cast<int64_t>(clip.bottom));
  if (right <= left || bottom <= top) return;
  const int64_t columns = right - left;
  std::vector<float> coverage(static_cast<size_t>(columns * (bottom - top)));
  const double reach = thickness / 2 + 0.5;
  for (size_t i = 0; i < points.size(); ++i) {
    const Point& a = points[i];
    const Point& b = points[i + 1 < points.size() ? i + 1 : i];
    if (i + 1 == points.size() && i > 0) break;
    const auto low = [&](double v, int64_t least) {
      return static_cast<int64_t>(std::floor(std::clamp(v - reach, static_cast<double>(least), 1e6)));
    };
    const auto high = [&](double v, int64_t most) {
      return static_cast<int64_t>(std::ceil(std::clamp(v + reach, -1e6, static_cast<double>(most))));
    };
    const int64_t first_y = low(std::min(a.second, b.second), top), last_y = high(std::max(a.second, b.second), bottom);
    const int64_t first_x = low(std::min(a.first, b.first), left), last_x = high(std::max(a.first, b.first), right);
    for (int64_t y = first_y; y < last_y; ++y)
      for (int64_t x = first_x; x < last_x; ++x) {
        const double d = distance_to_segment(static_cast<double>(x) + 0.5, static_cast<double>(y) + 0.5, a, b);
        float& at = coverage[static_cast<size_t>((y - top) * columns + x - left)];
        at = std::max(at, static_cast<float>(std::clamp(reach - d, 0.0, 1.0)));
      }
  }
  for (int64_t y = top; y < bottom; ++y)
    for (int64_t x = left; x < right; ++x) {
      const float at = coverage[static_cast<size_t>((y - top) * columns + x - left)];
      if (at > 0) blend(x, y, colour, opacity * static_cast<double>(at));
    }
}

int64_t Canvas::text_width(std::string_view text, int64_t size) {
  return renderer_.render(text, size, 0, image_.width).width;
}

int64_t Canvas::text(std::string_view text, double x, double y, int64_t size, const Colour& colour, Align align) {
  const TextMask mask = renderer_.render(text, size, 0, image_.width);
  const double shift = align == Align::kLeft ? 0 : align == Align::kRight ? 1 : 0.5;
  const auto left = static_cast<int64_t>(std::llround(x - shift * static_cast<double>(mask.width)));
  const auto top = static_cast<int64_t>(std::llround(y - static_cast<double>(mask.height) / 2));
  for (int64_t row = 0; row < mask.height; ++row)
    for (int64_t column = 0; column < mask.width; ++column) {
      const int64_t px = left + column, py = top + row;
      if (px < 0 || py < 0 || px >= image_.width || py >= image_.height) continue;
      blend(px, py, colour, mask.coverage[static_cast<size_t>(row * mask.width + column)] / 255.0);
    }
  return mask.width;
}

}  // namespace vl2::train

#include "core/image/draw.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "core/base/error.h"
#include "core/image/fonts.h"
#include "core/image/text_renderer.h"

namespace vl2 {
namespace {

using Colour = std::array<uint8_t, 3>;

// spec/text.md section 5, the official demo's list.
constexpr std::array<Colour, 13> kColours = {{{255, 0, 0},
                                              {0, 255, 0},
                                              {0, 0, 255},
                                              {0, 255, 255},
                                              {255, 255, 0},
                                              {255, 0, 255},
                                              {127, 127, 127},
                                              {255, 255, 127},
                                              {255, 127, 255},
                                              {127, 255, 255},
                                              {127, 127, 255},
                                              {127, 255, 127},
                                              {255, 127, 127}}};

struct Rect {
  int64_t left = 0, top = 0, right = 0, bottom = 0;  // right and bottom are outside

  int64_t width() const { return right - left; }
  int64_t height() const { return bottom - top; }
  bool overlaps(const Rect& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

// Clipped to the picture; nothing when no pixel of it remains. Comparisons are written so that NaN fails them.
std::optional<Rect> pixels_of(const LabelledBox& box, const Image& image) {
  const double width = static_cast<double>(image.width), height = static_cast<double>(image.height);
  if (!(box.x1 <= box.x2 && box.y1 <= box.y2)) return std::nullopt;
  if (!(box.x2 >= 0 && box.y2 >= 0 && box.x1 < width && box.y1 < height)) return std::nullopt;
  const auto pixel = [](double v, double size) { return static_cast<int64_t>(std::clamp(v, 0.0, size - 1)); };
  return Rect{pixel(box.x1, width), pixel(box.y1, height), pixel(box.x2, width) + 1, pixel(box.y2, height) + 1};
}

void fill(Image& image, const Rect& rect, const Colour& colour) {
  for (int64_t y = rect.top; y < rect.bottom; ++y) {
    uint8_t* row = image.row(y) + rect.left * 3;
    for (int64_t x = 0; x < rect.width(); ++x) std::copy(colour.begin(), colour.end(), row + x * 3);
  }
}

void outline(Image& image, const Rect& box, int64_t line, const Colour& colour) {
  const int64_t dx = std::min(line, box.width()), dy = std::min(line, box.height());
  fill(image, {box.left, box.top, box.right, box.top + dy}, colour);
  fill(image, {box.left, box.bottom - dy, box.right, box.bottom}, colour);
  fill(image, {box.left, box.top, box.left + dx, box.bottom}, colour);
  fill(image, {box.right - dx, box.top, box.right, box.bottom}, colour);
}

// Black or white, whichever reads better. WCAG 2's ratio would change sides at 0.18 and put black on pure red; eyes
// (and APCA) prefer white up to about twice that.
Colour ink_on(const Colour& plate) {
  const auto linear = [](uint8_t v) { return std::pow(v / 255.0, 2.2); };
  const double luminance = 0.2126 * linear(plate[0]) + 0.7152 * linear(plate[1]) + 0.0722 * linear(plate[2]);
  const uint8_t value = luminance > 0.36 ? 0 : 255;
  return {value, value, value};
}

// The size for pictures of 400 to 1200 pixels, in proportion outside: pictures are looked at scaled to a screen.
int64_t scaled(int64_t size, int64_t least, const Image& image) {
  const double side = static_cast<double>(std::max(image.width, image.height));
  const double scale = side < 400 ? side / 400 : side > 1200 ? side / 1200 : 1.0;
  return std::clamp<int64_t>(std::llround(static_cast<double>(size) * scale), least, 50 * size);
}

// The demo's place first; one that overlaps an earlier label only if all do.
std::optional<Rect> place(const Rect& box, int64_t width, int64_t height, const Image& image,
                          const std::vector<Rect>& taken) {
  if (width > image.width || height > image.height) return std::nullopt;
  const int64_t left = std::min(box.left, image.width - width);
  const int64_t lowest = image.height - height;
  const std::array<int64_t, 4> tops = {box.top - height, box.top, box.bottom, box.bottom - height};
  std::optional<Rect> first;
  for (const int64_t top : tops) {
    if (top < 0 || top > lowest) continue;
    const Rect plate{left, top, left + width, top + height};
    if (!first) first = plate;
    if (std::none_of(taken.begin(), taken.end(), [&](const Rect& other) { return other.overlaps(plate); }))
      return plate;
  }
  return first ? first : Rect{left, lowest, left + width, image.height};
}

void draw_text(Image& image, const TextMask& text, const Rect& plate, const Colour& ink) {
  for (int64_t y = 0; y < text.height; ++y) {
    uint8_t* row = image.row(plate.top + y) + plate.left * 3;
    const uint8_t* coverage = text.coverage.data() + y * text.width;
    for (int64_t x = 0; x < text.width; ++x)
      for (size_t c = 0; c < 3; ++c) {
        uint8_t& to = row[x * 3 + static_cast<int64_t>(c)];
        to = static_cast<uint8_t>((to * (255 - coverage[x]) + ink[c] * coverage[x] + 127) / 255);
      }
  }
}

std::string advice_for(char32_t missing) {
  // Han, kana, Hangul and what goes with them.
  const bool east_asian = (missing >= 0x1100 && missing <= 0x11FF) || (missing >= 0x2E80 && missing <= 0x9FFF) ||
                          (missing >= 0xA960 && missing <= 0xD7FF) || (missing >= 0xF900 && missing <= 0xFAFF) ||
                          (missing >= 0xFE30 && missing <= 0xFE4F) || (missing >= 0xFF00 && missing <= 0xFFEF) ||
                          (missing >= 0x20000 && missing <= 0x3FFFF);
  return fmt::format(
      "no installed font has U+{:04X}, drawn as an empty box; install {}", static_cast<uint32_t>(missing),
      east_asian ? "fonts-noto-cjk or fonts-droid-fallback" : "a font that has it, e.g. fonts-noto-core");
}

}  // namespace

Image draw_boxes(const Image& image, std::span<const LabelledBox> boxes, const DrawOptions& options,
                 DrawReport* report) {
  check_image(image);
  VL2_CHECK(options.line_width >= 0 && options.text_size >= 0 && options.text_size <= 4096);
  DrawReport unused;
  DrawReport& said = report != nullptr ? *report : unused;
  said = {};
  Image out = image;
  const int64_t line = options.line_width > 0 ? options.line_width : scaled(3, 1, image);
  const int64_t size = options.text_size > 0 ? options.text_size : scaled(20, 10, image);
  const bool labelled = std::any_of(boxes.begin(), boxes.end(), [](const LabelledBox& b) { return !b.label.empty(); });
  std::optional<TextRenderer> renderer;
  if (labelled) renderer.emplace(options.font, options.font_folders ? *options.font_folders : font_folders());

  std::vector<std::optional<Rect>> rects;
  for (size_t i = 0; i < boxes.size(); ++i) {
    rects.push_back(pixels_of(boxes[i], image));
    ++(rects[i] ? said.boxes_drawn : said.boxes_skipped);
    if (rects[i]) outline(out, *rects[i], line, kColours[i % kColours.size()]);
  }

  std::map<std::string, TextMask> masks;  // one label often stands at many boxes
  std::vector<Rect> taken;
  for (size_t i = 0; i < boxes.size(); ++i) {
    if (!rects[i] || boxes[i].label.empty()) continue;
    auto found = masks.find(boxes[i].label);
    if (found == masks.end())
      found = masks.emplace(boxes[i].label, renderer->render(boxes[i].label, size, size / 4, image.width)).first;
    const TextMask& text = found->second;
    if (text.missing_glyph && said.advice.empty()) said.advice = advice_for(*text.missing_glyph);
    const std::optional<Rect> plate =
        text.width > 0 ? place(*rects[i], text.width, text.height, image, taken) : std::nullopt;
    if (!plate) {
      ++said.labels_left_out;
      continue;
    }
    const Colour& colour = kColours[i % kColours.size()];
    fill(out, *plate, colour);
    draw_text(out, text, *plate, ink_on(colour));
    taken.push_back(*plate);
  }
  if (renderer && !renderer->has_font())
    said.advice = "no font on this machine, so the boxes have no labels; install fonts-dejavu-core";
  return out;
}

}  // namespace vl2

#include "data/synth/scene_painter.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/image/tiling.h"
#include "core/model_spec/model_config.h"

namespace vl2::data::synth {
namespace {

bool overlaps(const PixelBox& a, const PixelBox& b, double gap) {
  return a.x1 < b.x2 + gap && b.x1 < a.x2 + gap && a.y1 < b.y2 + gap && b.y1 < a.y2 + gap;
}

bool share_a_height(const PixelBox& a, const PixelBox& b, double gap) { return a.y1 < b.y2 + gap && b.y1 < a.y2 + gap; }

// Yellow and pink letters are too faint on paper, and what fills less of its box needs more contrast on black.
std::vector<Paint> ink_paints(bool dark) {
  std::vector<Paint> paints = paints_on(dark);
  if (dark) {
    std::erase(paints, Paint::kPurple);
    std::erase(paints, Paint::kBlue);
  } else {
    std::erase(paints, Paint::kYellow);
    std::erase(paints, Paint::kPink);
  }
  return paints;
}

}  // namespace

std::string format_price(int64_t cents) {
  return std::to_string(cents / 100) + (cents % 100 < 10 ? ".0" : ".") + std::to_string(cents % 100);
}

double unit_of(int64_t width, int64_t height, int64_t tile) {
  const auto [w, h] = best_resolution(width, height, default_candidate_resolutions(tile));
  return std::max(static_cast<double>(width) / static_cast<double>(w),
                  static_cast<double>(height) / static_cast<double>(h));
}

Canvas draw_canvas(int64_t tile, bool one_tile, Draws& draws) {
  constexpr std::array kShares = {0.48, 0.16, 0.08, 0.10, 0.10, 0.03, 0.05};
  const size_t kind = one_tile ? draws.index(3) : draws.weighted(kShares);
  const auto side = [&](double low, double high) {
    return std::max<int64_t>(16, std::llround(static_cast<double>(tile) * draws.real(low, high)));
  };
  Canvas canvas;
  switch (kind) {
    case 0:
      canvas = {tile, tile, 1};
      break;
    case 1:  // letterboxed
      canvas.width = side(0.75, 1);
      canvas.height = side(0.75, 1);
      break;
    case 2:
      canvas.width = side(0.6, 0.75);
      canvas.height = side(0.6, 0.75);
      break;
    case 3:
      canvas = {2 * tile, tile, 1};
      break;
    case 4:
      canvas = {tile, 2 * tile, 1};
      break;
    case 5:
      canvas = {2 * tile, 2 * tile, 1};
      break;
    default:
      canvas.width = side(1.1, 2);
      canvas.height = side(0.8, 1.3);
      if (draws.chance(0.5)) std::swap(canvas.width, canvas.height);
  }
  canvas.unit = unit_of(canvas.width, canvas.height, tile);
  return canvas;
}

Scene ScenePainter::start(const Canvas& canvas, bool dark) {
  Scene scene;
  scene.image = make_image(canvas.width, canvas.height, 0, 0, 0);
  scene.unit = canvas.unit;
  constexpr std::array kShares = {0.4, 0.25, 0.15, 0.2};
  const auto backdrop = static_cast<Backdrop>(draws_.weighted(kShares));
  const Colour base = backdrop_colour(dark, draws_);
  paint_backdrop(scene.image, backdrop, base, draws_);
  return scene;
}

// A free place for a box, with whole pixels of distance to everything; empty after many tries.
std::optional<PixelBox> ScenePainter::find_room(const Scene& scene, double width, double height, double gap) {
  const double margin = 4 * scene.unit;
  const double right = static_cast<double>(scene.image.width) - margin - width;
  const double bottom = static_cast<double>(scene.image.height) - margin - height;
  if (right <= margin || bottom <= margin) return std::nullopt;
  for (int attempt = 0; attempt < 60; ++attempt) {
    const double x = draws_.real(margin, right);
    const double y = draws_.real(margin, bottom);
    const PixelBox box{x, y, x + width, y + height};
    const bool taken = std::any_of(scene.shapes.begin(), scene.shapes.end(),
                                   [&](const DrawnShape& shape) { return overlaps(box, shape.box, gap); }) ||
                       std::any_of(scene.texts.begin(), scene.texts.end(),
                                   [&](const DrawnText& text) { return overlaps(box, text.box, gap); });
    if (!taken) return box;
  }
  return std::nullopt;
}

bool ScenePainter::add_shape(Scene& scene, Shape shape, Paint paint, double size) {
  const std::optional<PixelBox> room = find_room(scene, size, size, 4 * scene.unit);
  if (!room) return false;
  const std::vector<Contour> outline = outline_of(shape, {(room->x1 + room->x2) / 2, (room->y1 + room->y2) / 2}, size);
  const Colour colour = mix_paint(paint, draws_);
  fill_contours(scene.image, outline, colour);
  scene.shapes.push_back({shape, paint, bounds_of(outline), area_of(outline)});
  return true;
}

Scene ScenePainter::shapes(const ShapeOptions& options) {
  const Canvas canvas = draw_canvas(tile_, options.one_tile, draws_);
  const bool dark = draws_.chance(0.2);
  Scene scene = start(canvas, dark);
  const std::vector<Paint> paints = paints_on(dark);

  struct Wanted {
    Shape shape;
    Paint paint;
  };
  std::vector<Wanted> wanted;
  const auto any_shape = [&] { return shape_at(draws_.index(kNumShapes)); };
  if (options.crowd) {
    const Shape shape = any_shape();
    const bool one_paint = draws_.chance(0.4);
    const Paint paint = draws_.pick(paints);
    const int64_t n = draws_.between(1, 6);
    for (int64_t i = 0; i < n; ++i) wanted.push_back({shape, one_paint ? paint : draws_.pick(paints)});
    for (int64_t i = draws_.between(0, std::min<int64_t>(3, 7 - n)); i > 0; --i) {
      const Shape other = any_shape();
      wanted.push_back({other, draws_.pick(paints)});
    }
  } else {
    constexpr std::array kShares = {0.15, 0.25, 0.25, 0.2, 0.1, 0.05};
    const auto n = static_cast<int64_t>(draws_.weighted(kShares)) + 1;
    for (int64_t i = 0; i < n; ++i) {
      const Shape shape = any_shape();
      wanted.push_back({shape, draws_.pick(paints)});
    }
  }
  draws_.shuffle(wanted);

  if (draws_.chance(options.text_share)) {
    std::vector<Paint> text_paints = ink_paints(dark);
    add_text(scene, draws_.chance(0.5) ? TextKind::kWord : TextKind::kNumber, text_paints, 20, 34);
  }
  const double side = std::min(static_cast<double>(canvas.width), static_cast<double>(canvas.height)) / canvas.unit;
  const double largest = std::min(side * 0.5, side * 1.1 / std::sqrt(static_cast<double>(wanted.size()) + 0.5));
  for (const Wanted& w : wanted) {
    const double size = draws_.real(26, std::max(28.0, largest));
    if (!add_shape(scene, w.shape, w.paint, size * canvas.unit)) add_shape(scene, w.shape, w.paint, 26 * canvas.unit);
  }
  if (scene.shapes.empty()) add_shape(scene, Shape::kCircle, paints.front(), 0.3 * side * canvas.unit);
  return scene;
}

bool ScenePainter::add_text(Scene& scene, TextKind kind, std::vector<Paint>& paints, double smallest, double largest) {
  std::string text;
  if (kind == TextKind::kWord) text = lexicon_.written_word(draws_);
  if (kind == TextKind::kNumber) text = lexicon_.number(draws_);
  if (kind == TextKind::kChinese) text = lexicon_.chinese_word(draws_);
  const size_t face = draws_.index(faces_.size());
  const auto max_width = static_cast<int64_t>(static_cast<double>(scene.image.width) - 9 * scene.unit);
  for (int attempt = 0; attempt < 6; ++attempt) {
    // The later the smaller: what does not fit large may fit small.
    const double em = draws_.real(smallest, std::max(smallest, largest - attempt * (largest - smallest) / 5));
    const int64_t size = std::max<int64_t>(8, std::llround(em * scene.unit));
    const TextMask mask = kind == TextKind::kChinese ? faces_.render_chinese(text, size, max_width)
                                                     : faces_.render(face, text, size, max_width);
    if (mask.width == 0) continue;
    const PixelBox ink = ink_of(mask);
    const std::optional<PixelBox> room = find_room(scene, ink.x2 - ink.x1, ink.y2 - ink.y1, 4 * scene.unit);
    if (!room) continue;
    const auto left = static_cast<int64_t>(std::floor(room->x1)), top = static_cast<int64_t>(std::floor(room->y1));
    const auto dx = static_cast<double>(left), dy = static_cast<double>(top);
    const PixelBox box{dx, dy, dx + ink.x2 - ink.x1, dy + ink.y2 - ink.y1};
    if (std::any_of(scene.texts.begin(), scene.texts.end(),
                    [&](const DrawnText& other) { return share_a_height(box, other.box, 2 * scene.unit); }))
      continue;
    const size_t paint = draws_.index(paints.size());
    const Colour colour = mix_paint(paints[paint], draws_);
    draw_mask(scene.image, mask, left - static_cast<int64_t>(ink.x1), top - static_cast<int64_t>(ink.y1), colour);
    scene.texts.push_back({kind, text, paints[paint], box, letter_ends(kind, face, text, size)});
    paints.erase(paints.begin() + static_cast<std::ptrdiff_t>(paint));
    std::sort(scene.texts.begin(), scene.texts.end(),
              [](const DrawnText& a, const DrawnText& b) { return a.box.y1 < b.box.y1; });
    return true;
  }
  return false;
}

// From the widths of the text's beginnings. Chinese is not read letter by letter.
std::vector<double> ScenePainter::letter_ends(TextKind kind, size_t face, const std::string& text, int64_t size) {
  std::vector<double> ends;
  if (!letters_ || kind == TextKind::kChinese) return ends;
  for (size_t n = 1; n <= text.size(); ++n) {
    const TextMask mask = faces_.render(face, text.substr(0, n), size, int64_t{1} << 16);
    const PixelBox ink = mask.width > 0 ? ink_of(mask) : PixelBox{};
    ends.push_back(ink.x2 - ink.x1);
  }
  return ends;
}

Scene ScenePainter::texts(double chinese_share, bool one_tile) {
  const Canvas canvas = draw_canvas(tile_, one_tile, draws_);
  const bool dark = draws_.chance(0.25);
  Scene scene = start(canvas, dark);
  std::vector<Paint> paints = ink_paints(dark);
  const Paint ink = dark ? Paint::kWhite : Paint::kBlack;
  if (draws_.chance(0.25)) paints = {ink};

  const double side = std::min(static_cast<double>(canvas.width), static_cast<double>(canvas.height)) / canvas.unit;
  const double largest = std::min(60.0, side * 0.3);
  constexpr std::array kShares = {0.35, 0.35, 0.3};
  const size_t count = std::min(draws_.weighted(kShares) + 1, paints.size());
  for (size_t i = 0; i < count; ++i) {
    TextKind kind = draws_.chance(0.35) ? TextKind::kNumber : TextKind::kWord;
    if (faces_.has_chinese() && draws_.chance(chinese_share)) kind = TextKind::kChinese;
    add_text(scene, kind, paints, 20, std::max(24.0, largest));
  }
  if (draws_.chance(0.4)) {
    const std::vector<Paint> shape_paints = paints_on(dark);
    for (int64_t i = draws_.between(1, 3); i > 0; --i) {
      const Shape shape = shape_at(draws_.index(kNumShapes));
      const Paint paint = draws_.pick(shape_paints);
      const double size = draws_.real(26, 46);
      add_shape(scene, shape, paint, size * canvas.unit);
    }
  }
  return scene;
}

PixelBox ScenePainter::write(Image& image, size_t face, std::string_view text, double em, double x, double y,
                             double align, Colour colour) {
  const TextMask mask = faces_.render(face, text, std::max<int64_t>(8, std::llround(em)), int64_t{1} << 16);
  if (mask.width == 0) return {x, y, x, y};
  const PixelBox ink = ink_of(mask);
  const auto left = std::llround(x - align * (ink.x2 - ink.x1) - ink.x1);
  // The line's middle, not the ink's, so that letters of one line stand on one base line.
  const auto top = std::llround(y - static_cast<double>(mask.height) / 2);
  draw_mask(image, mask, left, top, colour);
  const auto dx = static_cast<double>(left), dy = static_cast<double>(top);
  return {ink.x1 + dx, ink.y1 + dy, ink.x2 + dx, ink.y2 + dy};
}

double ScenePainter::width_of(size_t face, std::string_view text, double em) {
  const TextMask mask = faces_.render(face, text, std::max<int64_t>(8, std::llround(em)), int64_t{1} << 16);
  return static_cast<double>(mask.width);
}

}  // namespace vl2::data::synth

// Drawing for the synthetic sets: backgrounds, polygons with exact coverage at their edges, text masks.
//
// Plain functions that change the picture they are given; what lies outside of it is clipped. Any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/image/image.h"
#include "core/image/text_renderer.h"
#include "core/text/grounding.h"
#include "data/synth/draws.h"

namespace vl2::data::synth {

struct Colour {
  uint8_t red = 0, green = 0, blue = 0;
  bool operator==(const Colour&) const = default;
};

// Pixels; (0, 0) is the top left corner of the top left pixel.
struct Point {
  double x = 0, y = 0;
};
using Contour = std::vector<Point>;  // closed; a hole runs the other way round

PixelBox bounds_of(std::span<const Contour> contours);
double area_of(std::span<const Contour> contours);

// A pixel gets the share of the colour that the outline covers of it. Contours must not cross themselves or each other.
void fill_contours(Image& image, std::span<const Contour> contours, Colour colour);
void fill_box(Image& image, const PixelBox& box, Colour colour);

// The smallest box around what can be seen of the text (coverage of a quarter at least), in pixels of the mask.
PixelBox ink_of(const TextMask& mask);
// The mask's top left corner comes to (left, top).
void draw_mask(Image& image, const TextMask& mask, int64_t left, int64_t top, Colour colour);

enum class Backdrop { kPlain, kGradient, kNoise, kStripes };
// A quiet background around `base`: no pixel differs from it by more than 16 in a channel.
void paint_backdrop(Image& image, Backdrop kind, Colour base, Draws& draws);

}  // namespace vl2::data::synth

// The kinds of shapes and the colours of the synthetic sets, with their names in English and Chinese.
//
// Constant tables and pure functions: any thread.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "data/synth/canvas.h"

namespace vl2::data::synth {

enum class Shape { kCircle, kSquare, kTriangle, kStar, kDiamond, kHeart, kCross, kRing };
inline constexpr size_t kNumShapes = 8;

enum class Paint { kRed, kGreen, kBlue, kYellow, kPurple, kOrange, kBlack, kPink, kBrown, kWhite };
inline constexpr size_t kNumPaints = 10;

struct ShapeName {
  std::string_view one, several, chinese;
};
const ShapeName& name_of(Shape shape);

struct PaintName {
  std::string_view english, chinese;
};
const PaintName& name_of(Paint paint);

Shape shape_at(size_t index);  // in the order of lists in answers
Paint paint_at(size_t index);

// "a red circle", "an orange star"
std::string with_article(std::string_view phrase);

// The outline in a box of `size` pixels around the centre, upright. Its bounds touch the box where the kind does.
std::vector<Contour> outline_of(Shape shape, Point centre, double size);

// The colour as it is drawn, a little different each time.
Colour mix_paint(Paint paint, Draws& draws);
// Paints that can be told from a light or a dark background.
std::vector<Paint> paints_on(bool dark);
// A background's colour, light or dark.
Colour backdrop_colour(bool dark, Draws& draws);

}  // namespace vl2::data::synth

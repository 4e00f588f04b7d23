// The markup of located things (spec/text.md 5): <|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2], ...]<|/det|>.
//
// Coordinates are integers 0..999, fractions of the original picture. The text comes from a model and is hostile:
// nothing here throws or evaluates. Pure functions: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vl2 {

// Top-left and bottom-right corner, each 0..999, x1 <= x2 and y1 <= y2.
struct Box {
  int x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  bool operator==(const Box&) const = default;
};

struct PixelBox {
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;
};

struct GroundedObject {
  struct Place {
    size_t begin = 0, end = 0;
  };
  std::string label;  // empty: boxes of nothing in particular
  std::vector<Box> boxes;
  std::vector<Place> box_places;  // of each box, brackets included, in the bytes of the answer that was parsed
  size_t begin = 0, end = 0;      // where the label stands in GroundedAnswer::text, in bytes
};

struct GroundedAnswer {
  std::string text;                     // the answer without markup, labels kept
  std::vector<GroundedObject> objects;  // each with a box at least, in the order of the text
};

// Takes what can be understood and drops the rest of the markup: a list belongs to the last label before it, numbers
// beyond 0..999 are clamped, corners put in order, lists that are not four numbers left out. An answer cut off within
// a list keeps the boxes that are whole. A label without a box is only text. Linear in the answer's length.
GroundedAnswer parse_grounding(std::string_view answer);

// "<|ref|>label<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>"; tags inside of the label are left out.
std::string format_grounding(std::string_view label, std::span<const Box> boxes);

// Pixels of a width x height picture to 0..999 and back: clamp(round(x / width * 999)), n / 999 * width.
Box encode_box(const PixelBox& pixels, int64_t width, int64_t height);
PixelBox decode_box(const Box& box, int64_t width, int64_t height);

// What the reference's demo would draw (golden quirk 29), box by box: pixels truncated toward zero, corners as they
// come. Empty: it would draw nothing, because tags do not pair up or anything is malformed.
struct DemoBox {
  std::string label;
  int64_t x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  bool operator==(const DemoBox&) const = default;
};
std::optional<std::vector<DemoBox>> parse_boxes_as_demo(std::string_view answer, int64_t width, int64_t height);

}  // namespace vl2

// Boxes with labels on a picture, as the official demo draws them, with labels that can be read on any background.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/image/image.h"

namespace vl2 {

// Corners in pixels; both are part of the box, as in the demo. Hostile values are fine.
struct LabelledBox {
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  std::string label;  // UTF-8, may be empty
};

struct DrawOptions {
  // 0: 3 pixels (the demo's) for a long side of 400 to 1200 pixels, in proportion beyond, never less than 1.
  int64_t line_width = 0;
  // Pixels an em. 0: 20 (the demo's) for the same pictures, in proportion beyond, never less than 10.
  int64_t text_size = 0;
  // Asked before the system's fonts; an unreadable one is an error.
  std::optional<std::filesystem::path> font;
  // Where the system's fonts are; unset: font_folders().
  std::optional<std::vector<std::filesystem::path>> font_folders;
};

struct DrawReport {
  size_t boxes_drawn = 0;
  size_t boxes_skipped = 0;    // outside the picture, inverted (x2 < x1 or y2 < y1) or not a number
  size_t labels_left_out = 0;  // no font, or no room for one character
  std::string advice;          // what to install so that every label can be drawn; empty when there is nothing to say
};

// Box i has colour i % 13 of the demo's list, whatever was skipped before it. The outline lies inside the box; what
// leaves the picture is clipped to its edge. The label stands on a plate of the box's colour above the box's top left
// corner, or, where that does not fit, inside or below the box; it never leaves the picture. All outlines are drawn
// before the first label. kInvalidArgument: options.font cannot be used. Pure function: any thread.
Image draw_boxes(const Image& image, std::span<const LabelledBox> boxes, const DrawOptions& options = {},
                 DrawReport* report = nullptr);

}  // namespace vl2

// A synthetic picture and everything that is known about it: what questions are asked from. Scenes are made by the
// painters of scene_painter.h.
//
// Plain data. Boxes are in pixels of the picture, as exact as the outlines are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/image/image.h"
#include "core/text/grounding.h"
#include "data/synth/shapes.h"

namespace vl2::data::synth {

struct DrawnShape {
  Shape shape = Shape::kCircle;
  Paint paint = Paint::kRed;
  PixelBox box;
  double area = 0;  // pixels the outline encloses
  double middle_x() const { return (box.x1 + box.x2) / 2; }
  double middle_y() const { return (box.y1 + box.y2) / 2; }
};

enum class TextKind { kWord, kNumber, kChinese };
struct DrawnText {
  TextKind kind = TextKind::kWord;
  std::string text;
  Paint paint = Paint::kBlack;  // no two texts of a scene have the same
  PixelBox box;                 // of the ink
  // Where each letter's ink ends at most, from the box's left; empty where nobody asked.
  std::vector<double> letter_ends;
};

struct Bar {
  std::string label;
  int64_t value = 0;
  Paint paint = Paint::kBlue;
  PixelBox box;
};
struct BarChart {
  std::string title;      // may be empty
  std::vector<Bar> bars;  // left to right
  bool shows_values = false;
  bool many_colours = false;  // each bar has its own
};

struct Table {
  std::vector<std::string> columns;            // the first one names the rows
  std::vector<std::vector<std::string>> rows;  // [row][column]
};

struct Receipt {
  struct Line {
    std::string item;
    int64_t cents = 0;
  };
  std::string shop;
  std::vector<Line> lines;
  int64_t total_cents = 0;
};
std::string format_price(int64_t cents);  // "12.50"

// A part of a chart, table or receipt, wide enough that every token of the picture stands for one, and what it says.
struct Cell {
  PixelBox box;
  std::string text;  // a bar's: its value
};

struct Scene {
  Image image;
  double unit = 1;  // pixels of the picture that become one pixel of its tiles
  std::vector<DrawnShape> shapes;
  std::vector<DrawnText> texts;  // top to bottom; lines do not share a height
  std::optional<BarChart> chart;
  std::optional<Table> table;
  std::optional<Receipt> receipt;
  std::vector<Cell> cells;  // of these three
};

}  // namespace vl2::data::synth

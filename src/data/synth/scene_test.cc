#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/image/fonts.h"
#include "data/synth/questions.h"
#include "data/synth/scene_painter.h"

namespace vl2::data::synth {
namespace {

constexpr int64_t kTile = 210;

class Scenes : public testing::Test {
 protected:
  template <typename Make>
  void for_each_scene(uint64_t count, const Make& make) {
    for (uint64_t seed = 0; seed < count; ++seed) {
      Draws draws(seed);
      ScenePainter painter(faces_, lexicon_, kTile, draws);
      make(painter, draws);
      if (HasFailure()) {
        ADD_FAILURE() << "seed " << seed;
        return;
      }
    }
  }

  const std::vector<std::filesystem::path> folders_ = font_folders();
  TypeFaces faces_{Split::kTrain, folders_};
  const Lexicon lexicon_{Split::kTrain};
};

Colour at(const Image& image, int64_t x, int64_t y) {
  const uint8_t* p = image.row(y) + 3 * x;
  return {p[0], p[1], p[2]};
}

int distance(Colour a, Colour b) {
  return std::max({std::abs(a.red - b.red), std::abs(a.green - b.green), std::abs(a.blue - b.blue)});
}

// Paints vary by 12 a channel around what a draw without variation would give.
bool is_pure(Colour c, Paint paint) {
  Draws draws(1);
  return distance(c, mix_paint(paint, draws)) <= 24;
}

bool row_has_paint(const Image& image, const PixelBox& box, double y, Paint paint) {
  const auto row = static_cast<int64_t>(std::floor(y));
  if (row < 0 || row >= image.height) return false;
  for (auto x = static_cast<int64_t>(std::floor(box.x1)); x < static_cast<int64_t>(std::ceil(box.x2)); ++x)
    if (x >= 0 && x < image.width && is_pure(at(image, x, row), paint)) return true;
  return false;
}

bool column_has_paint(const Image& image, const PixelBox& box, double x, Paint paint) {
  const auto column = static_cast<int64_t>(std::floor(x));
  if (column < 0 || column >= image.width) return false;
  for (auto y = static_cast<int64_t>(std::floor(box.y1)); y < static_cast<int64_t>(std::ceil(box.y2)); ++y)
    if (y >= 0 && y < image.height && is_pure(at(image, column, y), paint)) return true;
  return false;
}

TEST_F(Scenes, ShapesReachTheEdgesOfTheirBoxesAndEndThere) {
  for_each_scene(60, [&](ScenePainter& painter, Draws&) {
    const Scene scene = painter.shapes({});
    ASSERT_FALSE(scene.shapes.empty());
    for (const DrawnShape& s : scene.shapes) {
      SCOPED_TRACE(std::string(name_of(s.paint).english) + " " + std::string(name_of(s.shape).one));
      // A tip (of a star: 36 degrees) covers a whole pixel within 5 pixels of its end.
      EXPECT_TRUE(row_has_paint(scene.image, s.box, s.box.y1 + 5, s.paint));
      EXPECT_TRUE(row_has_paint(scene.image, s.box, s.box.y2 - 5, s.paint));
      EXPECT_TRUE(column_has_paint(scene.image, s.box, s.box.x1 + 5, s.paint));
      EXPECT_TRUE(column_has_paint(scene.image, s.box, s.box.x2 - 5, s.paint));
      EXPECT_FALSE(row_has_paint(scene.image, s.box, s.box.y1 - 1, s.paint));
      EXPECT_FALSE(row_has_paint(scene.image, s.box, s.box.y2 + 1, s.paint));
      EXPECT_FALSE(column_has_paint(scene.image, s.box, s.box.x1 - 1, s.paint));
      EXPECT_FALSE(column_has_paint(scene.image, s.box, s.box.x2 + 1, s.paint));
    }
  });
}

TEST_F(Scenes, NothingOverlapsAndEverythingIsInThePicture) {
  for_each_scene(80, [&](ScenePainter& painter, Draws& draws) {
    const Scene scene = draws.chance(0.5) ? painter.texts(0, false) : painter.shapes({true, 0.5, false});
    std::vector<PixelBox> boxes;
    for (const DrawnShape& s : scene.shapes) boxes.push_back(s.box);
    for (const DrawnText& text : scene.texts) boxes.push_back(text.box);
    for (size_t i = 0; i < boxes.size(); ++i) {
      EXPECT_GE(boxes[i].x1, 0);
      EXPECT_GE(boxes[i].y1, 0);
      EXPECT_LE(boxes[i].x2, static_cast<double>(scene.image.width));
      EXPECT_LE(boxes[i].y2, static_cast<double>(scene.image.height));
      for (size_t j = 0; j < i; ++j)
        EXPECT_FALSE(boxes[i].x1 < boxes[j].x2 && boxes[j].x1 < boxes[i].x2 && boxes[i].y1 < boxes[j].y2 &&
                     boxes[j].y1 < boxes[i].y2);
    }
  });
}

TEST_F(Scenes, TextFillsItsBoxAndStandsOutFromTheBackground) {
  int texts = 0;
  for_each_scene(60, [&](ScenePainter& painter, Draws&) {
    const Scene scene = painter.texts(0, false);
    for (const DrawnText& text : scene.texts) {
      SCOPED_TRACE(text.text);
      ++texts;
      const auto x1 = static_cast<int64_t>(text.box.x1), x2 = static_cast<int64_t>(text.box.x2);
      const auto y1 = static_cast<int64_t>(text.box.y1), y2 = static_cast<int64_t>(text.box.y2);
      EXPECT_GE(static_cast<double>(y2 - y1), 6 * scene.unit);
      const auto inked = [&](int64_t left, int64_t top, int64_t right, int64_t bottom) {
        int most = 0;
        for (int64_t y = top; y < bottom; ++y)
          for (int64_t x = left; x < right; ++x)
            most = std::max(most, distance(at(scene.image, x, y), at(scene.image, x1, std::max<int64_t>(0, y1 - 2))));
        return most;
      };
      // A quarter of the ink's difference from the background at least (canvas.h), which is 90 and more; the
      // background itself varies by 32.
      EXPECT_GT(inked(x1, y1, x2, y2), 90);
      for (const int edge :
           {inked(x1, y1, x2, y1 + 1), inked(x1, y2 - 1, x2, y2), inked(x1, y1, x1 + 1, y2), inked(x2 - 1, y1, x2, y2)})
        EXPECT_GT(edge, 14);
    }
  });
  EXPECT_GT(texts, 60);
}

TEST_F(Scenes, BarsAreAsHighAsTheirValuesSay) {
  for_each_scene(40, [&](ScenePainter& painter, Draws&) {
    const Scene scene = painter.chart();
    ASSERT_TRUE(scene.chart.has_value());
    ASSERT_GE(scene.chart->bars.size(), 2u);
    const Bar& first = scene.chart->bars[0];
    for (const Bar& bar : scene.chart->bars) {
      EXPECT_GT(bar.value, 0);
      EXPECT_NEAR((bar.box.y2 - bar.box.y1) / static_cast<double>(bar.value),
                  (first.box.y2 - first.box.y1) / static_cast<double>(first.value), 1e-9);
      const auto middle = static_cast<int64_t>((bar.box.x1 + bar.box.x2) / 2);
      EXPECT_TRUE(is_pure(at(scene.image, middle, static_cast<int64_t>(bar.box.y2) - 2), bar.paint));
      EXPECT_TRUE(is_pure(at(scene.image, middle, static_cast<int64_t>(bar.box.y1 + 1)), bar.paint));
    }
  });
}

TEST_F(Scenes, TablesAndReceiptsAddUp) {
  for_each_scene(30, [&](ScenePainter& painter, Draws&) {
    const Scene table = painter.table();
    for (const auto& row : table.table->rows) EXPECT_EQ(row.size(), table.table->columns.size());
    const Scene receipt = painter.receipt();
    int64_t sum = 0;
    for (const Receipt::Line& line : receipt.receipt->lines) sum += line.cents;
    EXPECT_EQ(sum, receipt.receipt->total_cents);
  });
  EXPECT_EQ(format_price(1205), "12.05");
  EXPECT_EQ(format_price(50), "0.50");
}

// "the red circle" -> how many there are.
int64_t count_named(const Scene& scene, std::string_view phrase) {
  return std::count_if(scene.shapes.begin(), scene.shapes.end(), [&](const DrawnShape& s) {
    const std::string shape(name_of(s.shape).one), paint(name_of(s.paint).english);
    return phrase == "the " + shape || phrase == "the " + paint + " " + shape;
  });
}

TEST_F(Scenes, WhatIsToBeLocatedIsThereOnceAndWhatIsSaidToBeAbsentIsNot) {
  int located = 0, absent = 0;
  for_each_scene(150, [&](ScenePainter& painter, Draws& draws) {
    const Scene scene = painter.shapes({draws.chance(0.4), 0, false});
    for (const Skill skill : {Skill::kLocate, Skill::kAbsent}) {
      const std::optional<Turn> turn = ask(skill, scene, 0, draws);
      if (!turn) continue;
      const size_t begin = turn->question.find("<|ref|>") + 7;
      const std::string phrase = turn->question.substr(begin, turn->question.find("<|/ref|>") - begin);
      EXPECT_EQ(count_named(scene, phrase), skill == Skill::kLocate ? 1 : 0) << phrase;
      ++(skill == Skill::kLocate ? located : absent);
    }
  });
  EXPECT_GT(located, 100);
  EXPECT_GT(absent, 80);
}

TEST_F(Scenes, CountsAreThoseOfTheShapes) {
  std::array<int, 7> seen{};
  for_each_scene(250, [&](ScenePainter& painter, Draws& draws) {
    const Scene scene = painter.shapes({true, 0, false});
    const std::optional<Turn> turn = ask(Skill::kCount, scene, 0, draws);
    if (!turn) return;
    const int64_t answer = std::stoll(turn->answer);
    ASSERT_LE(answer, 6);
    ++seen[static_cast<size_t>(answer)];
    int64_t expected = 0;
    bool any_shape = true, any_paint = true;
    for (size_t i = 0; i < kNumShapes; ++i)
      any_shape = any_shape && turn->question.find(name_of(shape_at(i)).several) == std::string::npos;
    for (size_t i = 0; i < kNumPaints; ++i)
      any_paint = any_paint && turn->question.find(name_of(paint_at(i)).english) == std::string::npos;
    for (const DrawnShape& s : scene.shapes)
      expected += (any_shape || turn->question.find(name_of(s.shape).several) != std::string::npos) &&
                          (any_paint || turn->question.find(name_of(s.paint).english) != std::string::npos)
                      ? 1
                      : 0;
    EXPECT_EQ(answer, expected) << turn->question;
  });
  for (const int n : seen) EXPECT_GT(n, 0);
}

TEST(Canvases, TheUnitIsThatOfTheReleasesTiling) {
  EXPECT_DOUBLE_EQ(unit_of(210, 210, 210), 1);
  EXPECT_DOUBLE_EQ(unit_of(420, 210, 210), 1);
  EXPECT_DOUBLE_EQ(unit_of(105, 105, 210), 0.5);
}

}  // namespace
}  // namespace vl2::data::synth

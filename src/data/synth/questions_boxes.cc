// Where things are: locating, finding all, what is not there, descriptions with boxes; and descriptions without.
#include <algorithm>
#include <string>

#include "data/synth/questions.h"

namespace vl2::data::synth {
namespace {

constexpr std::array<std::string_view, 9> kLocate = {
    "<|ref|>{}<|/ref|>",           "<|ref|>{}<|/ref|>.",          "Locate <|ref|>{}<|/ref|> in the given image.",
    "Where is <|ref|>{}<|/ref|>?", "Locate <|ref|>{}<|/ref|>.",   "Find <|ref|>{}<|/ref|> in the picture.",
    "Show me <|ref|>{}<|/ref|>.",  "Point to <|ref|>{}<|/ref|>.", "找到<|ref|>{}<|/ref|>"};
constexpr std::array<std::string_view, 6> kFindAll = {"Find all the <|ref|>{}<|/ref|>",
                                                      "Find all the <|ref|>{}<|/ref|>.",
                                                      "Locate all <|ref|>{}<|/ref|> in the given image.",
                                                      "Where are the <|ref|>{}<|/ref|>?",
                                                      "Show me all <|ref|>{}<|/ref|>.",
                                                      "Box every one of the <|ref|>{}<|/ref|>."};
constexpr std::array<std::string_view, 7> kDescribe = {
    "Describe the picture.",        "What is in the picture?",     "What do you see?",
    "Describe the image.",          "What does the picture show?", "Can you describe the content of the image?",
    "Tell me what is in the image."};

std::string english(const DrawnShape& s) {
  return std::string(name_of(s.paint).english) + " " + std::string(name_of(s.shape).one);
}

Box box_of(const PixelBox& box, const Scene& scene) { return encode_box(box, scene.image.width, scene.image.height); }

size_t count(const Scene& scene, Shape shape, std::optional<Paint> paint) {
  return static_cast<size_t>(std::count_if(scene.shapes.begin(), scene.shapes.end(), [&](const DrawnShape& s) {
    return s.shape == shape && (!paint || s.paint == *paint);
  }));
}

struct Thing {
  std::string phrase;
  PixelBox box;
};

// Everything that one phrase names alone. `chart` bars, texts and shapes.
std::vector<Thing> unique_things(const Scene& scene) {
  std::vector<Thing> things;
  for (const DrawnShape& s : scene.shapes) {
    if (count(scene, s.shape, s.paint) == 1) things.push_back({"the " + english(s), s.box});
    if (count(scene, s.shape, std::nullopt) == 1) things.push_back({"the " + std::string(name_of(s.shape).one), s.box});
  }
  if (scene.texts.size() == 1) things.push_back({"the text", scene.texts[0].box});
  for (const DrawnText& text : scene.texts) {
    const auto of_kind =
        std::count_if(scene.texts.begin(), scene.texts.end(), [&](const DrawnText& t) { return t.kind == text.kind; });
    if (text.kind == TextKind::kNumber && of_kind == 1) things.push_back({"the number", text.box});
    if (text.kind == TextKind::kWord && of_kind == 1) things.push_back({"the word", text.box});
    if (text.kind == TextKind::kWord) {
      const auto same = std::count_if(scene.texts.begin(), scene.texts.end(),
                                      [&](const DrawnText& t) { return t.text == text.text; });
      if (same == 1) things.push_back({"the word " + text.text, text.box});
    }
  }
  if (scene.chart)
    for (const Bar& bar : scene.chart->bars) things.push_back({"the bar " + bar.label, bar.box});
  return things;
}

std::optional<Turn> ask_locate(const Scene& scene, Draws& draws) {
  const std::vector<Thing> things = unique_things(scene);
  if (things.empty()) return std::nullopt;
  const Thing& thing = draws.pick(things);
  Turn turn;
  turn.question = worded(draws.pick(kLocate), thing.phrase);
  turn.boxes = {box_of(thing.box, scene)};
  turn.answer = format_grounding(thing.phrase, turn.boxes);
  return turn;
}

std::optional<Turn> ask_find_all(const Scene& scene, Draws& draws) {
  if (scene.shapes.empty()) return std::nullopt;
  const DrawnShape& chosen = draws.pick(scene.shapes);
  const double kind = draws.real(0, 1);
  std::string what = kind < 0.2 ? "shapes" : std::string(name_of(chosen.shape).several);
  if (kind >= 0.7) what = std::string(name_of(chosen.paint).english) + " " + what;
  std::vector<PixelBox> found;
  for (const DrawnShape& s : scene.shapes)
    if (kind < 0.2 || (s.shape == chosen.shape && (kind < 0.7 || s.paint == chosen.paint))) found.push_back(s.box);
  if (found.size() > 6 || (found.size() == 1 && draws.chance(0.6))) return std::nullopt;
  // Raster order: from the top down. Where two tops nearly coincide, nobody could know which comes first.
  std::sort(found.begin(), found.end(), [](const PixelBox& a, const PixelBox& b) { return a.y1 < b.y1; });
  for (size_t i = 1; i < found.size(); ++i)
    if (found[i].y1 - found[i - 1].y1 < 4 * scene.unit) return std::nullopt;
  Turn turn;
  turn.question = worded(draws.pick(kFindAll), what);
  for (const PixelBox& box : found) turn.boxes.push_back(box_of(box, scene));
  turn.answer = format_grounding(what, turn.boxes);
  return turn;
}

std::optional<Turn> ask_absent(const Scene& scene, Draws& draws) {
  if (scene.shapes.empty()) return std::nullopt;
  const DrawnShape& near = draws.pick(scene.shapes);
  const double kind = draws.real(0, 1);
  const Shape other_shape = shape_at(draws.index(kNumShapes));
  const Paint other_paint = paint_at(draws.index(kNumPaints));
  const Shape shape = kind < 0.6 ? other_shape : near.shape;
  const Paint paint = kind < 0.6 ? near.paint : other_paint;
  const bool any_colour = kind < 0.2;
  if (count(scene, shape, any_colour ? std::nullopt : std::optional(paint)) > 0) return std::nullopt;
  std::string what = any_colour ? "" : std::string(name_of(paint).english) + " ";
  what += name_of(shape).one;
  Turn turn;
  turn.question = worded(draws.pick(kLocate), "the " + what);
  turn.answer = "There is no " + what + " in the image.";
  return turn;
}

// Left to right; empty where that order is in doubt, or the list would be long.
std::vector<const DrawnShape*> left_to_right(const Scene& scene) {
  std::vector<const DrawnShape*> shapes;
  for (const DrawnShape& s : scene.shapes) shapes.push_back(&s);
  std::sort(shapes.begin(), shapes.end(),
            [](const DrawnShape* a, const DrawnShape* b) { return a->middle_x() < b->middle_x(); });
  for (size_t i = 1; i < shapes.size(); ++i)
    if (shapes[i]->middle_x() - shapes[i - 1]->middle_x() < 8 * scene.unit) return {};
  if (shapes.size() > 4) return {};
  return shapes;
}

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += i + 1 == items.size() ? " and " : ", ";
    text += items[i];
  }
  return text;
}

std::string text_phrase(const DrawnText& text) {
  return std::string(text.kind == TextKind::kNumber ? "the number " : "the text ") + text.text;
}

std::optional<Turn> ask_ground(const Scene& scene, Draws& draws) {
  const std::vector<const DrawnShape*> shapes = left_to_right(scene);
  if (shapes.empty() || scene.texts.size() > 1) return std::nullopt;
  Turn turn;
  turn.question = "<|grounding|>" + std::string(draws.pick(kDescribe));
  std::vector<std::string> items;
  const auto add = [&](std::string_view article, std::string_view label, const PixelBox& pixels) {
    const Box box = box_of(pixels, scene);
    turn.boxes.push_back(box);
    items.push_back(std::string(article) + format_grounding(label, {&box, 1}));
  };
  for (const DrawnShape* s : shapes) {
    const std::string label = english(*s), named = with_article(label);
    add(named.substr(0, named.size() - label.size()), label, s->box);
  }
  for (const DrawnText& text : scene.texts) add("the ", text_phrase(text).substr(4), text.box);
  turn.answer = joined(items);
  return turn;
}

}  // namespace

std::optional<Turn> ask_to_describe(const Scene& scene, Draws& draws) {
  Turn turn;
  turn.question = draws.pick(kDescribe);
  std::vector<std::string> items;
  if (scene.chart) {
    for (const Bar& bar : scene.chart->bars) items.push_back(bar.label);
    turn.answer = "a bar chart with " + std::to_string(items.size()) + " bars: " + joined(items);
    return turn;
  }
  if (scene.table) {
    for (const std::string& column : scene.table->columns) items.push_back(column);
    turn.answer = "a table with " + std::to_string(scene.table->rows.size()) + " rows: " + joined(items);
    return turn;
  }
  if (scene.receipt) {
    for (const Receipt::Line& line : scene.receipt->lines) items.push_back(line.item);
    turn.answer = "a receipt with " + std::to_string(items.size()) + " items: " + joined(items);
    return turn;
  }
  const std::vector<const DrawnShape*> shapes = left_to_right(scene);
  if (shapes.size() != scene.shapes.size() || shapes.size() + scene.texts.size() > 5) return std::nullopt;
  for (const DrawnShape* s : shapes) items.push_back(with_article(english(*s)));
  for (const DrawnText& text : scene.texts) items.push_back(text_phrase(text));
  if (items.empty()) return std::nullopt;
  turn.answer = joined(items);
  return turn;
}

std::optional<Turn> ask_for_boxes(Skill skill, const Scene& scene, Draws& draws) {
  switch (skill) {
    case Skill::kLocate:
      return ask_locate(scene, draws);
    case Skill::kFindAll:
      return ask_find_all(scene, draws);
    case Skill::kAbsent:
      return ask_absent(scene, draws);
    case Skill::kGround:
      return ask_ground(scene, draws);
    default:
      return std::nullopt;
  }
}

}  // namespace vl2::data::synth

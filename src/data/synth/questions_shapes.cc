// Colour, shape, number, list, comparison, yes or no: questions about coloured shapes.
#include <algorithm>
#include <string>

#include "data/synth/questions.h"

namespace vl2::data::synth {
namespace {

using Wordings = std::array<std::string_view, 6>;

constexpr std::array<std::string_view, 8> kColourOf = {
    "What colour is the {}?",        "What color is the {}?",        "Which colour does the {} have?",
    "Tell me the colour of the {}.", "What is the color of the {}?", "The {} is of which colour?",
    "Name the colour of the {}.",    "Which color is the {}?"};
constexpr std::array<std::string_view, 7> kShapeOf = {"What shape is {}?",           "Which shape is {}?",
                                                      "What is the {} shape?",       "Name the shape that is {}.",
                                                      "What kind of shape is {}?",   "Tell me which shape is {}.",
                                                      "The {} thing is which shape?"};
constexpr std::array<std::string_view, 8> kCountOf = {"How many {} are there?",
                                                      "How many {} can you see?",
                                                      "Count the {}.",
                                                      "How many {} are in the picture?",
                                                      "How many {} does the picture show?",
                                                      "What is the number of {}?",
                                                      "Tell me how many {} there are.",
                                                      "Number of {}?"};
constexpr Wordings kListShapes = {"What shapes are in the picture?",
                                  "Which shapes are in the picture?",
                                  "List the shapes.",
                                  "Which kinds of shapes are there?",
                                  "Name all shapes you see.",
                                  "What kinds of shapes does the picture show?"};
constexpr Wordings kListColours = {"What colours are the shapes?",      "List the colours of the shapes.",
                                   "Which colours do the shapes have?", "What colors are the shapes?",
                                   "Name all colours of the shapes.",   "Which colors can you see on the shapes?"};
constexpr Wordings kLarger = {"Which is larger, the {} or the {}?",     "Which is bigger, the {} or the {}?",
                              "What is larger: the {} or the {}?",      "Is the {} or the {} larger?",
                              "Which one is bigger, the {} or the {}?", "Of the {} and the {}, which is larger?"};
constexpr Wordings kSmaller = {"Which is smaller, the {} or the {}?",
                               "What is smaller: the {} or the {}?",
                               "Is the {} or the {} smaller?",
                               "Which one is smaller, the {} or the {}?",
                               "Of the {} and the {}, which is smaller?",
                               "Which is the smaller one, the {} or the {}?"};
constexpr Wordings kLeft = {"Which is further left, the {} or the {}?",
                            "What is more to the left: the {} or the {}?",
                            "Is the {} or the {} further left?",
                            "Which one is further left, the {} or the {}?",
                            "Of the {} and the {}, which is further left?",
                            "Which is on the left, the {} or the {}?"};
constexpr Wordings kHigher = {"Which is higher up, the {} or the {}?",
                              "What is higher up: the {} or the {}?",
                              "Is the {} or the {} higher up?",
                              "Which one is higher up, the {} or the {}?",
                              "Of the {} and the {}, which is higher up?",
                              "Which is nearer to the top, the {} or the {}?"};
constexpr Wordings kMore = {
    "Are there more {} or {}?",  "What are there more of, {} or {}?",    "Which are more, {} or {}?",
    "Do you see more {} or {}?", "Does the picture have more {} or {}?", "Which are there more of: {} or {}?"};
constexpr std::array<std::string_view, 7> kIsThere = {
    "Is there {}?",   "Is there {} in the picture?", "Can you see {}?",          "Does the picture show {}?",
    "Do you see {}?", "Is {} in the picture?",       "Does the picture have {}?"};

constexpr Wordings kColourOfChinese = {"{}是什么颜色？",       "{}的颜色是什么？",     "请说出{}的颜色。",
                                       "图中的{}是什么颜色？", "图片里{}是哪种颜色？", "{}是哪种颜色？"};
constexpr Wordings kShapeOfChinese = {"{}的是什么形状？",     "什么形状是{}的？", "哪个形状是{}的？",
                                      "图中{}的是什么形状？", "请说出{}的形状。", "{}的形状是什么？"};
constexpr Wordings kCountOfChinese = {"有几个{}？", "图中有多少个{}？", "请数一数{}。",
                                      "{}有几个？", "图片里有几个{}？", "一共有多少个{}？"};
constexpr Wordings kIsThereChinese = {"有{}吗？",       "图中有{}吗？", "图片里有没有{}？",
                                      "你看到{}了吗？", "有没有{}？",   "图片里能看到{}吗？"};

std::string phrase(const DrawnShape& s) {
  return std::string(name_of(s.paint).english) + " " + std::string(name_of(s.shape).one);
}

size_t count(const Scene& scene, std::optional<Shape> shape, std::optional<Paint> paint) {
  return static_cast<size_t>(std::count_if(scene.shapes.begin(), scene.shapes.end(), [&](const DrawnShape& s) {
    return (!shape || s.shape == *shape) && (!paint || s.paint == *paint);
  }));
}

std::optional<Turn> ask_colour(const Scene& scene, bool chinese, Draws& draws) {
  std::vector<const DrawnShape*> single;
  for (const DrawnShape& s : scene.shapes)
    if (count(scene, s.shape, std::nullopt) == 1) single.push_back(&s);
  Turn turn;
  const bool of_text = scene.texts.size() == 1 && scene.texts[0].kind != TextKind::kChinese;
  if (of_text && (single.empty() || draws.chance(0.15))) {
    const std::string_view what = scene.texts[0].kind == TextKind::kNumber ? "number" : "text";
    turn.question = worded(draws.pick(kColourOf), what);
    turn.answer = name_of(scene.texts[0].paint).english;
    return turn;
  }
  if (single.empty()) return std::nullopt;
  const DrawnShape& s = *draws.pick(single);
  turn.question = chinese ? worded(draws.pick(kColourOfChinese), name_of(s.shape).chinese)
                          : worded(draws.pick(kColourOf), name_of(s.shape).one);
  turn.answer = chinese ? name_of(s.paint).chinese : name_of(s.paint).english;
  return turn;
}

std::optional<Turn> ask_shape(const Scene& scene, bool chinese, Draws& draws) {
  std::vector<const DrawnShape*> single;
  for (const DrawnShape& s : scene.shapes)
    if (count(scene, std::nullopt, s.paint) == 1) single.push_back(&s);
  if (single.empty()) return std::nullopt;
  const DrawnShape& s = *draws.pick(single);
  Turn turn;
  turn.question = chinese ? worded(draws.pick(kShapeOfChinese), name_of(s.paint).chinese)
                          : worded(draws.pick(kShapeOf), name_of(s.paint).english);
  turn.answer = chinese ? name_of(s.shape).chinese : name_of(s.shape).one;
  return turn;
}

std::optional<Turn> ask_count(const Scene& scene, bool chinese, Draws& draws) {
  if (scene.shapes.empty()) return std::nullopt;
  std::optional<Shape> shape;
  std::optional<Paint> paint;
  const double kind = draws.real(0, 1);
  // What there is none of has no kind or colour of the picture; mostly we ask for what is there.
  const DrawnShape& s = draws.pick(scene.shapes);
  const Shape other_shape = shape_at(draws.index(kNumShapes));
  const bool other = draws.chance(0.1);
  if (kind < 0.55) shape = other ? other_shape : s.shape;
  if (kind >= 0.55 && kind < 0.7) shape = s.shape;
  if (kind >= 0.55 && kind < 0.8) paint = s.paint;
  const size_t n = count(scene, shape, paint);
  if (n > 6) return std::nullopt;
  Turn turn;
  if (chinese) {
    std::string what = paint ? std::string(name_of(*paint).chinese) : "";
    if (paint) what += "的";
    what += shape ? std::string(name_of(*shape).chinese) : "图形";
    turn.question = worded(draws.pick(kCountOfChinese), what);
  } else {
    std::string what = paint ? std::string(name_of(*paint).english) + " " : "";
    what += shape ? name_of(*shape).several : std::string_view("shapes");
    turn.question = worded(draws.pick(kCountOf), what);
  }
  turn.answer = std::to_string(n);
  return turn;
}

std::optional<Turn> ask_list(const Scene& scene, Draws& draws) {
  if (scene.shapes.empty()) return std::nullopt;
  const bool colours = draws.chance(0.35);
  Turn turn;
  turn.question = colours ? draws.pick(kListColours) : draws.pick(kListShapes);
  for (size_t i = 0; i < (colours ? kNumPaints : kNumShapes); ++i) {
    const bool there =
        colours ? count(scene, std::nullopt, paint_at(i)) > 0 : count(scene, shape_at(i), std::nullopt) > 0;
    if (!there) continue;
    if (!turn.answer.empty()) turn.answer += ", ";
    turn.answer += colours ? name_of(paint_at(i)).english : name_of(shape_at(i)).one;
  }
  return turn;
}

std::optional<Turn> ask_which(const Scene& scene, Draws& draws) {
  std::vector<const DrawnShape*> single;
  for (const DrawnShape& s : scene.shapes)
    if (count(scene, s.shape, s.paint) == 1) single.push_back(&s);
  if (single.size() < 2) return std::nullopt;
  draws.shuffle(single);
  const DrawnShape &a = *single[0], &b = *single[1];
  Turn turn;
  const int64_t kind = draws.between(0, 3);
  if (kind <= 1) {
    // By area and by box, so that a thin cross is not larger than a disc for one and smaller for the other.
    const double box_a = (a.box.x2 - a.box.x1) * (a.box.y2 - a.box.y1),
                 box_b = (b.box.x2 - b.box.x1) * (b.box.y2 - b.box.y1);
    const bool a_larger = box_a > 1.5 * box_b && a.area > 1.4 * b.area;
    const bool b_larger = box_b > 1.5 * box_a && b.area > 1.4 * a.area;
    if (!a_larger && !b_larger) return std::nullopt;
    turn.question = worded(draws.pick(kind == 0 ? kLarger : kSmaller), phrase(a), phrase(b));
    turn.answer = phrase(a_larger == (kind == 0) ? a : b);
  } else {
    const double distance = kind == 2 ? b.middle_x() - a.middle_x() : b.middle_y() - a.middle_y();
    if (std::abs(distance) < 24 * scene.unit) return std::nullopt;
    turn.question = worded(draws.pick(kind == 2 ? kLeft : kHigher), phrase(a), phrase(b));
    turn.answer = phrase(distance > 0 ? a : b);
  }
  return turn;
}

std::optional<Turn> ask_more(const Scene& scene, Draws& draws) {
  const Shape a = draws.pick(scene.shapes).shape;
  const Shape b = draws.pick(scene.shapes).shape;
  const size_t in_a = count(scene, a, std::nullopt), in_b = count(scene, b, std::nullopt);
  if (in_a == in_b) return std::nullopt;
  Turn turn;
  turn.question = worded(draws.pick(kMore), name_of(a).several, name_of(b).several);
  turn.answer = name_of(in_a > in_b ? a : b).several;
  return turn;
}

std::optional<Turn> ask_yes_no(const Scene& scene, bool chinese, Draws& draws) {
  if (scene.shapes.empty()) return std::nullopt;
  const DrawnShape& there = draws.pick(scene.shapes);
  Shape shape = there.shape;
  Paint paint = there.paint;
  if (draws.chance(0.5)) {
    // Mostly one of the two is in the picture, so that looking for either is not enough.
    const double kind = draws.real(0, 1);
    const Shape other_shape = shape_at(draws.index(kNumShapes));
    const Paint other_paint = paint_at(draws.index(kNumPaints));
    const DrawnShape& second = draws.pick(scene.shapes);
    if (kind < 0.35) {
      shape = other_shape;
    } else if (kind < 0.7) {
      paint = other_paint;
    } else if (kind < 0.85) {
      paint = second.paint;
    } else {
      shape = other_shape;
      paint = other_paint;
    }
  }
  const bool yes = count(scene, shape, paint) > 0;
  Turn turn;
  if (chinese) {
    const std::string what = std::string(name_of(paint).chinese) + "的" + std::string(name_of(shape).chinese);
    turn.question = worded(draws.pick(kIsThereChinese), what);
    turn.answer = yes ? "有" : "没有";
  } else {
    const std::string what = std::string(name_of(paint).english) + " " + std::string(name_of(shape).one);
    turn.question = worded(draws.pick(kIsThere), with_article(what));
    turn.answer = yes ? "yes" : "no";
  }
  return turn;
}

}  // namespace

std::optional<Turn> ask_about_shapes(Skill skill, const Scene& scene, bool chinese, Draws& draws) {
  switch (skill) {
    case Skill::kColour:
      return ask_colour(scene, chinese, draws);
    case Skill::kShape:
      return ask_shape(scene, chinese, draws);
    case Skill::kCount:
      return ask_count(scene, chinese, draws);
    case Skill::kList:
      return ask_list(scene, draws);
    case Skill::kCompare:
      if (scene.shapes.size() < 2) return std::nullopt;
      return draws.chance(0.25) ? ask_more(scene, draws) : ask_which(scene, draws);
    case Skill::kYesNo:
      return ask_yes_no(scene, chinese, draws);
    default:
      return std::nullopt;
  }
}

}  // namespace vl2::data::synth

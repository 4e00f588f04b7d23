// Two pictures side by side.
#include <algorithm>
#include <string>

#include "data/synth/questions.h"

namespace vl2::data::synth {
namespace {

using Wordings = std::array<std::string_view, 6>;

constexpr Wordings kMoreShapes = {"Which picture has more shapes?",
                                  "Which image shows more shapes?",
                                  "In which picture are more shapes?",
                                  "Which of the two has more shapes?",
                                  "Where are more shapes, in the first or the second picture?",
                                  "Which picture contains more shapes?"};
constexpr Wordings kWhichShows = {"Which picture shows {}?",
                                  "In which picture is {}?",
                                  "Which image has {}?",
                                  "Where do you see {}, in the first or the second picture?",
                                  "Which of the two pictures has {}?",
                                  "Which picture contains {}?"};
constexpr Wordings kColourIn = {
    "What colour is the {} in the {} picture?",         "What color is the {} in the {} image?",
    "Which colour does the {} in the {} picture have?", "Tell me the colour of the {} in the {} picture.",
    "Name the colour of the {} in the {} image.",       "What is the color of the {} in the {} picture?"};
constexpr Wordings kCountIn = {
    "How many {} are in the {} picture?",          "Count the {} in the {} picture.",
    "How many {} does the {} picture show?",       "How many {} can you see in the {} image?",
    "What is the number of {} in the {} picture?", "Tell me how many {} there are in the {} image."};
constexpr Wordings kInBoth = {"Is there {} in both pictures?",  "Do both pictures show {}?",
                              "Can you see {} in both images?", "Is {} in both of the pictures?",
                              "Do both images have {}?",        "Does each of the pictures show {}?"};
constexpr std::array<std::string_view, 2> kOrdinals = {"first", "second"};

size_t count(const Scene& scene, Shape shape) {
  return static_cast<size_t>(
      std::count_if(scene.shapes.begin(), scene.shapes.end(), [&](const DrawnShape& s) { return s.shape == shape; }));
}

size_t count(const Scene& scene, Shape shape, Paint paint) {
  return static_cast<size_t>(std::count_if(scene.shapes.begin(), scene.shapes.end(),
                                           [&](const DrawnShape& s) { return s.shape == shape && s.paint == paint; }));
}

std::string phrase(const DrawnShape& s) {
  return with_article(std::string(name_of(s.paint).english) + " " + std::string(name_of(s.shape).one));
}

std::string the_picture(bool first) { return first ? "the first" : "the second"; }

}  // namespace

std::optional<Turn> ask_pair(const Scene& first, const Scene& second, Draws& draws) {
  const bool in_first = draws.chance(0.5);
  const Scene& one = in_first ? first : second;
  const Scene& other = in_first ? second : first;
  const std::string_view ordinal = kOrdinals[in_first ? 0 : 1];
  if (one.shapes.empty()) return std::nullopt;
  const DrawnShape& s = draws.pick(one.shapes);
  Turn turn;
  turn.skill = Skill::kPair;
  switch (draws.between(0, 4)) {
    case 0:
      if (first.shapes.size() == second.shapes.size()) return std::nullopt;
      turn.question = draws.pick(kMoreShapes);
      turn.answer = the_picture(first.shapes.size() > second.shapes.size());
      return turn;
    case 1:
      if (count(other, s.shape, s.paint) > 0) return std::nullopt;
      turn.question = worded(draws.pick(kWhichShows), phrase(s));
      turn.answer = the_picture(in_first);
      return turn;
    case 2:
      if (count(one, s.shape) != 1) return std::nullopt;
      turn.question = worded(draws.pick(kColourIn), name_of(s.shape).one, ordinal);
      turn.answer = name_of(s.paint).english;
      return turn;
    case 3: {
      const bool all = draws.chance(0.4);
      turn.question = worded(draws.pick(kCountIn), all ? "shapes" : name_of(s.shape).several, ordinal);
      turn.answer = std::to_string(all ? one.shapes.size() : count(one, s.shape));
      return turn;
    }
    default: {
      const bool both = count(other, s.shape) > 0;
      turn.question = worded(draws.pick(kInBoth), with_article(name_of(s.shape).one));
      turn.answer = both ? "yes" : "no";
      return turn;
    }
  }
}

}  // namespace vl2::data::synth

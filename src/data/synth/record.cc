#include "data/synth/record.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <utility>

#include "core/base/error.h"
#include "core/image/fonts.h"
#include "data/synth/scene_painter.h"

namespace vl2::data::synth {
namespace {

using nlohmann::ordered_json;

std::vector<std::filesystem::path> folders_of(const MakerOptions& options) {
  return options.font_folders.empty() ? font_folders() : options.font_folders;
}

const MakerOptions& checked(const MakerOptions& options) {
  if (options.tile < 64 || options.tile > 1024)
    fail(ErrorCode::kInvalidArgument, "tiles of {} pixels, expected 64 to 1024", options.tile);
  if (!(options.chinese_share >= 0 && options.chinese_share <= 1))
    fail(ErrorCode::kInvalidArgument, "a share of {} in Chinese, expected 0 to 1", options.chinese_share);
  double sum = 0;
  for (const double weight : options.weights) {
    if (!(weight >= 0 && weight <= 1e6))
      fail(ErrorCode::kInvalidArgument, "a skill's weight is {}, expected 0 to 1000000", weight);
    sum += weight;
  }
  if (sum <= 0) fail(ErrorCode::kInvalidArgument, "all skills have the weight 0; name one to be asked for");
  return options;
}

// The same words, or the same thing in other words. Few answers are possible to questions of yes or no, colours and the
// like: there a second one of the same answer is another question.
bool asked_before(const std::vector<Turn>& turns, const Turn& turn) {
  constexpr std::array kOneAnswerOneQuestion = {Skill::kCount,  Skill::kList,     Skill::kLocate, Skill::kFindAll,
                                                Skill::kGround, Skill::kDescribe, Skill::kWord,   Skill::kNumber,
                                                Skill::kBar,    Skill::kTable,    Skill::kReceipt};
  const bool telling =
      std::find(kOneAnswerOneQuestion.begin(), kOneAnswerOneQuestion.end(), turn.skill) != kOneAnswerOneQuestion.end();
  return std::any_of(turns.begin(), turns.end(), [&](const Turn& t) {
    return t.question == turn.question || (telling && t.skill == turn.skill && t.answer == turn.answer);
  });
}

// What regions of a record are called: what they show, or where their things begin or end.
enum class Naming { kWhat, kBegin, kEnd };

// The hundreds of a box's corner: as answers with boxes say them.
std::pair<std::string, std::string> corner_of(const Box& box, Naming naming) {
  const bool begin = naming == Naming::kBegin;
  return {std::to_string((begin ? box.x1 : box.x2) / 100), std::to_string((begin ? box.y1 : box.y2) / 100)};
}

// A word is said whole, of a number two digits: the first two or the last.
Region cell_region(const Box& box, const std::string& text, Naming naming) {
  std::string digits;
  for (const char c : text)
    if (c >= '0' && c <= '9') digits += c;
  if (digits.empty()) return {box, " " + text, " " + text};
  const size_t begin = naming == Naming::kWhat || digits.size() < 2 ? 0 : digits.size() - 2;
  return {box, digits.substr(begin, 1), digits.substr(std::min(begin + 1, digits.size() - 1), 1)};
}

// Labels begin with a space where tokens of whole words do.
std::vector<Region> regions_of(const Scene& scene, Naming naming) {
  const auto box_of = [&](const PixelBox& box) { return encode_box(box, scene.image.width, scene.image.height); };
  std::vector<Region> regions;
  for (const DrawnShape& shape : scene.shapes) {
    Region region{box_of(shape.box), fmt::format(" {}", name_of(shape.paint).english),
                  fmt::format(" {}", name_of(shape.shape).one)};
    if (naming != Naming::kWhat) std::tie(region.global_label, region.local_label) = corner_of(region.box, naming);
    regions.push_back(std::move(region));
  }
  for (const DrawnText& text : scene.texts) {
    double begin = 0;
    for (size_t i = 0; i < text.letter_ends.size(); ++i) {
      const double end = text.letter_ends[i];
      const std::string letter = text.text.substr(i, 1);
      if (letter != " " && end > begin) {
        Region region{box_of({text.box.x1 + begin, text.box.y1, text.box.x1 + end, text.box.y2}), letter, letter};
        if (naming != Naming::kWhat)
          std::tie(region.global_label, region.local_label) = corner_of(box_of(text.box), naming);
        regions.push_back(std::move(region));
      }
      begin = std::max(begin, end);
    }
  }
  for (const Cell& cell : scene.cells) regions.push_back(cell_region(box_of(cell.box), cell.text, naming));
  return regions;
}

void put_placeholders(Record& record) {
  std::string placeholders;
  for (size_t i = 0; i < record.images.size(); ++i) placeholders += "<image>\n";
  record.turns.front().question.insert(0, placeholders);
}

}  // namespace

SkillWeights MakerOptions::stage_weights(Stage stage) {
  SkillWeights weights{};
  const auto set = [&](Skill skill, double weight) { weights[static_cast<size_t>(skill)] = weight; };
  if (stage == Stage::kAlignment) {
    // What is to be seen, where it is and what is written: all else is built on that. An answer with boxes has ten
    // times the tokens of a word: their shares are those of the loss, not of the questions.
    set(Skill::kColour, 6);
    set(Skill::kShape, 6);
    set(Skill::kCount, 14);
    set(Skill::kList, 3);
    set(Skill::kYesNo, 6);
    set(Skill::kLocate, 6);
    set(Skill::kFindAll, 1);
    set(Skill::kGround, 0.7);
    set(Skill::kDescribe, 3);
    set(Skill::kWord, 50);
    set(Skill::kNumber, 20);
    return weights;
  }
  set(Skill::kColour, 6);
  set(Skill::kShape, 5);
  set(Skill::kCount, 12);
  set(Skill::kList, 4);
  set(Skill::kCompare, 5);
  set(Skill::kYesNo, 5);
  set(Skill::kLocate, 10);
  set(Skill::kFindAll, 3);
  set(Skill::kAbsent, 4);
  set(Skill::kGround, 2);
  set(Skill::kDescribe, 3);
  set(Skill::kWord, 30);
  set(Skill::kNumber, 12);
  set(Skill::kBar, 7);
  set(Skill::kTable, 4);
  set(Skill::kReceipt, 4);
  set(Skill::kPair, 3);
  set(Skill::kText, 6);
  if (stage == Stage::kPretraining) {  // text for its own sake, and more of what is learnt last
    set(Skill::kText, 20);
    set(Skill::kCompare, 7);
    set(Skill::kBar, 10);
    set(Skill::kTable, 7);
    set(Skill::kReceipt, 7);
  }
  return weights;
}

SkillWeights parse_skills(std::string_view text) {
  SkillWeights weights{};
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string_view item = text.substr(at, end - at), name = item.substr(0, item.find('='));
    at = end + 1;
    const std::optional<Skill> skill = parse_skill(name);
    if (!skill) {
      std::string all;
      for (size_t i = 0; i < kNumSkills; ++i) {
        if (i > 0) all += ", ";
        all += skill_name(static_cast<Skill>(i));
      }
      fail(ErrorCode::kInvalidArgument, "'{}' is no skill; there are {}", name.substr(0, 40), all);
    }
    double weight = 1;
    if (name.size() < item.size()) {
      const std::string_view number = item.substr(name.size() + 1);
      const auto parsed = std::from_chars(number.data(), number.data() + number.size(), weight);
      if (parsed.ec != std::errc() || parsed.ptr != number.data() + number.size() || !(weight >= 0 && weight <= 1e6))
        fail(ErrorCode::kInvalidArgument, "the weight of {} is '{}', expected a number from 0 to 1000000", name,
             number.substr(0, 40));
    }
    weights[static_cast<size_t>(*skill)] = weight;
  }
  return weights;
}

std::string_view Record::task() const {
  const bool same = std::all_of(turns.begin(), turns.end(), [&](const Turn& t) { return t.skill == turns[0].skill; });
  return same ? skill_name(turns.front().skill) : "mixed";
}

RecordMaker::RecordMaker(const MakerOptions& options)
    : options_(checked(options)), lexicon_(options.split), faces_(options.split, folders_of(options)) {}

Record RecordMaker::make(int64_t index) {
  VL2_CHECK(index >= 0);
  const uint64_t stream = splitmix64(options_.seed ^ fnv1a64(options_.split == Split::kTrain ? "train" : "test"));
  Draws draws(splitmix64(stream + static_cast<uint64_t>(index) * 0x9e3779b97f4a7c15ull));
  Record record;
  while (record.turns.empty()) {
    const auto skill = static_cast<Skill>(draws.weighted(options_.weights));
    // A scene that cannot be asked for its skill is thrown away, not the skill: the mix stays what was ordered.
    for (int attempt = 0; attempt < 50 && record.turns.empty(); ++attempt) {
      if (skill == Skill::kText) record = make_text(draws);
      if (skill == Skill::kPair) record = make_pair(draws);
      if (skill != Skill::kText && skill != Skill::kPair) record = make_scene(skill, draws);
    }
  }
  put_placeholders(record);
  record.index = index;
  return record;
}

Record RecordMaker::make_text(Draws& draws) {
  Record record;
  const int64_t turns = options_.one_question ? 1 : draws.between(5, 9);
  while (std::ssize(record.turns) < turns) {
    Turn turn = ask_text(lexicon_, options_.chinese_share, draws);
    if (!asked_before(record.turns, turn)) record.turns.push_back(std::move(turn));
  }
  return record;
}

Record RecordMaker::make_pair(Draws& draws) {
  ScenePainter painter(faces_, lexicon_, options_.tile, draws);
  ScenePainter::ShapeOptions few;
  few.one_tile = true;
  few.text_share = 0.1;
  Scene first = painter.shapes(few);
  Scene second = painter.shapes(few);
  Record record;
  const int64_t turns = options_.one_question ? 1 : draws.between(3, 5);
  for (int attempt = 0; attempt < 30 && std::ssize(record.turns) < turns; ++attempt) {
    std::optional<Turn> turn = ask_pair(first, second, draws);
    if (turn && !asked_before(record.turns, *turn)) record.turns.push_back(std::move(*turn));
  }
  record.images.push_back(std::move(first.image));
  record.images.push_back(std::move(second.image));
  return record;
}

Scene RecordMaker::paint(Skill skill, Draws& draws) {
  ScenePainter painter(faces_, lexicon_, options_.tile, draws);
  ScenePainter::ShapeOptions shapes;
  if (options_.stage == Stage::kAlignment) {
    painter.find_letters();
    // One tile is the cheapest picture: most is seen for the same work.
    if (skill == Skill::kWord || skill == Skill::kNumber) return painter.texts(options_.chinese_share, true);
    shapes.one_tile = true;
    shapes.crowd = (skill == Skill::kCount || skill == Skill::kFindAll) && draws.chance(0.8);
    return painter.shapes(shapes);
  }
  // Where several kinds of pictures can be asked for a skill, one of them.
  double kind = draws.real(0, 1);
  switch (skill) {
    case Skill::kBar:
      return painter.chart();
    case Skill::kTable:
      return painter.table();
    case Skill::kReceipt:
      return painter.receipt();
    case Skill::kWord:
    case Skill::kNumber:
      return painter.texts(options_.chinese_share, false);
    case Skill::kFindAll:
      shapes.crowd = kind < 0.7;
      return painter.shapes(shapes);
    case Skill::kCount:
      shapes.crowd = kind < 0.75;
      if (kind > 0.9) break;
      return painter.shapes(shapes);
    case Skill::kCompare:
      if (kind > 0.65) break;
      shapes.crowd = kind < 0.15;
      return painter.shapes(shapes);
    case Skill::kLocate:
      if (kind > 0.85) return kind > 0.93 ? painter.chart() : painter.texts(options_.chinese_share, false);
      return painter.shapes(shapes);
    case Skill::kDescribe:
      if (kind > 0.7) break;
      if (kind > 0.5) return painter.texts(0, false);
      return painter.shapes(shapes);
    case Skill::kColour:
      if (kind > 0.93) return painter.chart();
      return painter.shapes(shapes);
    default:
      return painter.shapes(shapes);
  }
  kind = draws.real(0, 1);
  if (kind < 0.5) return painter.chart();
  return kind < 0.75 ? painter.table() : painter.receipt();
}

Record RecordMaker::make_scene(Skill skill, Draws& draws) {
  Scene scene = paint(skill, draws);
  Record record;
  std::optional<Turn> asked;
  for (int attempt = 0; attempt < 6 && !asked; ++attempt) asked = ask(skill, scene, options_.chinese_share, draws);
  if (!asked) return record;
  record.turns.push_back(std::move(*asked));
  if (!options_.one_question) {
    const int64_t turns = draws.between(4, 6);
    // Few attempts keep to the weights, many to the number of turns.
    const int attempts = options_.stage == Stage::kAlignment ? 12 : 40;
    for (int attempt = 0; attempt < attempts && std::ssize(record.turns) < turns; ++attempt) {
      const auto other = static_cast<Skill>(draws.weighted(options_.weights));
      std::optional<Turn> turn = ask(other, scene, options_.chinese_share, draws);
      if (turn && !asked_before(record.turns, *turn)) record.turns.push_back(std::move(*turn));
    }
    draws.shuffle(record.turns);
  }
  // In pretraining what stands in documents: there is more to be seen in them than is ever asked.
  if (options_.stage == Stage::kAlignment || (options_.stage == Stage::kPretraining && !scene.cells.empty())) {
    constexpr std::array kNamings = {0.6, 0.2, 0.2};
    record.regions = regions_of(scene, static_cast<Naming>(draws.weighted(kNamings)));
  }
  record.images.push_back(std::move(scene.image));
  return record;
}

Record make_record(const MakerOptions& options, int64_t index) { return RecordMaker(options).make(index); }

std::string record_line(const Record& record, std::string_view id, const std::vector<std::string>& images) {
  VL2_CHECK(images.size() == record.images.size());
  ordered_json line;
  line["id"] = id;
  for (const Turn& turn : record.turns) {
    line["messages"].push_back({{"role", "user"}, {"content", turn.question}});
    line["messages"].push_back({{"role", "assistant"}, {"content", turn.answer}});
  }
  if (!images.empty()) line["images"] = images;
  for (const Region& r : record.regions)
    line["regions"].push_back({0, r.box.x1, r.box.y1, r.box.x2, r.box.y2, r.global_label, r.local_label});
  line["task"] = record.task();
  if (record.task() == "mixed")
    for (const Turn& turn : record.turns) line["tasks"].push_back(skill_name(turn.skill));
  if (record.turns.size() == 1) {
    const Turn& turn = record.turns.front();
    for (const Box& box : turn.boxes) line["expect"]["boxes"].push_back({box.x1, box.y1, box.x2, box.y2});
    if (turn.value) line["expect"] = {{"value", *turn.value}, {"tolerance", 0.05}};
  }
  return line.dump();
}

}  // namespace vl2::data::synth

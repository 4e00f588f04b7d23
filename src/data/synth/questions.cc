#include "data/synth/questions.h"

#include <algorithm>

namespace vl2::data::synth {
namespace {

constexpr std::array<std::string_view, kNumSkills> kNames = {
    "colour", "shape",    "count", "list",   "compare", "yesno", "locate",  "findall", "absent",
    "ground", "describe", "word",  "number", "bar",     "table", "receipt", "pair",    "text"};

}  // namespace

std::string_view skill_name(Skill skill) { return kNames[static_cast<size_t>(skill)]; }

std::optional<Skill> parse_skill(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<Skill>(found - kNames.begin());
}

std::string worded(std::string_view wording, std::string_view what, std::string_view other) {
  std::string text;
  bool first = true;
  for (size_t at = 0; at < wording.size();) {
    if (wording.substr(at, 2) == "{}") {
      text += first ? what : other;
      first = false;
      at += 2;
    } else {
      text += wording[at++];
    }
  }
  return text;
}

std::optional<Turn> ask(Skill skill, const Scene& scene, double chinese_share, Draws& draws) {
  const bool chinese = draws.chance(chinese_share);
  std::optional<Turn> turn;
  switch (skill) {
    case Skill::kColour:
    case Skill::kShape:
    case Skill::kCount:
    case Skill::kList:
    case Skill::kCompare:
    case Skill::kYesNo:
      turn = scene.chart || scene.table || scene.receipt ? ask_about_documents(skill, scene, draws)
                                                         : ask_about_shapes(skill, scene, chinese, draws);
      break;
    case Skill::kLocate:
    case Skill::kFindAll:
    case Skill::kAbsent:
    case Skill::kGround:
      turn = ask_for_boxes(skill, scene, draws);
      break;
    case Skill::kDescribe:
      turn = ask_to_describe(scene, draws);
      break;
    case Skill::kWord:
    case Skill::kNumber:
      turn = ask_to_read(skill, scene, chinese, draws);
      break;
    case Skill::kBar:
    case Skill::kTable:
    case Skill::kReceipt:
      turn = ask_about_documents(skill, scene, draws);
      break;
    case Skill::kPair:
    case Skill::kText:
      return std::nullopt;
  }
  if (turn) turn->skill = skill;
  return turn;
}

}  // namespace vl2::data::synth

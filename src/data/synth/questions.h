// Questions about scenes, each with the one right answer. Answers are short and regular; every kind has at least six
// wordings. docs/data.md lists skills, wordings and forms of answers.
//
// Pure functions of scene and draws: any thread, a stream of draws belongs to one.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/grounding.h"
#include "data/synth/draws.h"
#include "data/synth/scene.h"
#include "data/synth/words.h"

namespace vl2::data::synth {

enum class Skill {
  kColour,
  kShape,
  kCount,
  kList,
  kCompare,
  kYesNo,
  kLocate,
  kFindAll,
  kAbsent,
  kGround,
  kDescribe,
  kWord,
  kNumber,
  kBar,
  kTable,
  kReceipt,
  kPair,
  kText,
};
inline constexpr size_t kNumSkills = 18;
std::string_view skill_name(Skill skill);  // "colour", "findall", ...
std::optional<Skill> parse_skill(std::string_view name);

struct Turn {
  Skill skill = Skill::kColour;
  std::string question, answer;
  // What counts where the answer need not be met letter by letter.
  std::vector<Box> boxes;        // 0..999 of the (last) picture; empty: no boxes are asked for
  std::optional<int64_t> value;  // of a bar: right within 5 %
};

// Empty: nothing of this kind can be asked about the scene without doubt.
std::optional<Turn> ask(Skill skill, const Scene& scene, double chinese_share, Draws& draws);
// Skill::kPair, about two scenes.
std::optional<Turn> ask_pair(const Scene& first, const Scene& second, Draws& draws);
// Skill::kText, about nothing: sums, words, counting, letters.
Turn ask_text(const Lexicon& lexicon, double chinese_share, Draws& draws);

// For the files of this folder: the wordings with "{}" in place of what they are about.
std::string worded(std::string_view wording, std::string_view what, std::string_view other = "");

// Turns per skill; each in the file named after what it looks at.
std::optional<Turn> ask_about_shapes(Skill skill, const Scene& scene, bool chinese, Draws& draws);
std::optional<Turn> ask_for_boxes(Skill skill, const Scene& scene, Draws& draws);
std::optional<Turn> ask_to_describe(const Scene& scene, Draws& draws);
std::optional<Turn> ask_to_read(Skill skill, const Scene& scene, bool chinese, Draws& draws);
std::optional<Turn> ask_about_documents(Skill skill, const Scene& scene, Draws& draws);

}  // namespace vl2::data::synth

// One record of the synthetic set of nano: what everything else here is for.
//
//   RecordMaker maker(options);
//   Record record = maker.make(12);     // depends on options and index alone
//
// A maker owns the fonts it draws with; one thread at a time, several makers may work at once.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/image/image.h"
#include "data/synth/questions.h"
#include "data/synth/type_faces.h"
#include "data/synth/words.h"

namespace vl2::data::synth {

enum class Stage { kAlignment, kPretraining, kSft };
using SkillWeights = std::array<double, kNumSkills>;  // by Skill

struct MakerOptions {
  uint64_t seed = 0;
  Split split = Split::kTrain;  // tests never meet the pictures, the fonts or the held out words of training
  int64_t tile = 210;           // pixels a side; 64 to 1024
  Stage stage = Stage::kSft;
  SkillWeights weights = stage_weights(Stage::kSft);  // how often a skill is asked for, in any unit
  bool one_question = false;                          // for measuring: each record has one question
  double chinese_share = 0.08;                        // of what can be asked in Chinese
  std::vector<std::filesystem::path> font_folders;    // empty: the system's

  static SkillWeights stage_weights(Stage stage);
};

// "count,locate=3": skills with their weights (1 unless given), all others 0. kInvalidArgument, naming what there is.
SkillWeights parse_skills(std::string_view text);

// What a part of a picture shows, for a model that is learning to see.
struct Region {
  Box box;  // 0 to 999
  // " red" and " star", or twice the letter; in some records instead the hundreds of x and y where its thing begins, or
  // ends. Of a cell of a document twice its word, or two digits of its number.
  std::string global_label, local_label;
};

struct Record {
  int64_t index = 0;
  std::vector<Turn> turns;      // the first question has the placeholders of the pictures in front
  std::vector<Image> images;    // none to two
  std::vector<Region> regions;  // of the first picture; alignment, and documents of pretraining

  // "count" where all turns ask for one skill, else "mixed".
  std::string_view task() const;
};

class RecordMaker {
 public:
  // kInvalidArgument: options outside of their ranges, no weight above 0. kNotFound: no fonts.
  explicit RecordMaker(const MakerOptions& options);
  Record make(int64_t index);
  const TypeFaces& faces() const { return faces_; }

 private:
  Record make_text(Draws& draws);
  Record make_pair(Draws& draws);
  // Empty where the scene could not be asked about.
  Record make_scene(Skill skill, Draws& draws);
  Scene paint(Skill skill, Draws& draws);

  MakerOptions options_;
  Lexicon lexicon_;
  TypeFaces faces_;
};

// A single one; opens the fonts anew each time.
Record make_record(const MakerOptions& options, int64_t index);

// The line of the JSONL file: {"id", "messages", "images"?, "task", "tasks"?, "expect"?} without a newline. `images`:
// the paths of the record's pictures. "tasks" names the skill of each turn of a mixed record; "expect" is there where
// boxes or a bar's value are asked for by the record's only question: {"boxes": [[x1, y1, x2, y2], ...]} in 0..999,
// {"value", "tolerance"}.
std::string record_line(const Record& record, std::string_view id, const std::vector<std::string>& images);

}  // namespace vl2::data::synth

// How often answers to the synthetic questions of nano are right, skill by skill.
//
// Records are those that `vl2 data synth nano --questions one` writes: {"id", "messages", "images"?, "task",
// "expect"?}, the expected answer as the last message. Answers are lines of {"id", "answer", "margin"?}, whoever gave
// them: the engine, the trainer, somebody else.
//
// Plain functions; any thread. Both kinds of files are hostile.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/processor/conversation.h"
#include "core/text/grounding.h"

namespace vl2::eval {

struct NanoRecord {
  std::string id, task;
  std::vector<Message> messages;              // up to the question
  std::vector<std::filesystem::path> images;  // relative ones count from the folder of the file
  std::string expected;                       // the answer
  std::vector<Box> boxes;                     // not empty: boxes count
  std::optional<double> value;                // there: the number counts
  double tolerance = 0;                       // of the value, relative
};

// kCorrupt with file and line: anything but such records; an id that is there twice; a record of several questions.
std::vector<NanoRecord> parse_nano_records(std::string_view jsonl, const std::filesystem::path& file);
std::vector<NanoRecord> read_nano_records(const std::filesystem::path& file);

struct NanoAnswer {
  std::string id, text;
  // The smallest difference between the best and the second best logit along the answer, where it is known.
  std::optional<double> margin;
};
std::vector<NanoAnswer> parse_nano_answers(std::string_view jsonl, const std::string& where);
std::vector<NanoAnswer> read_nano_answers(const std::filesystem::path& file);
std::string format_nano_answers(std::span<const NanoAnswer> answers);

// Of one skill, or of all questions together.
struct SkillScore {
  std::string task;
  int64_t questions = 0;
  int64_t answered = 0;  // a question without an answer is wrong
  // The skill's own measure: exact match; where boxes are expected as many as expected, each with IoU > 0.5; where a
  // value is, a number within the tolerance.
  int64_t right = 0;
  int64_t exact = 0;  // letter by letter, whatever the measure; white space at both ends does not count
  int64_t boxes = 0;  // expected ones, of all questions
  int64_t boxes_found = 0;
  double iou_sum = 0;  // of expected boxes with the answered box they are paired with; 0 for those without

  double share_right() const { return share(right, questions); }
  double mean_iou() const { return boxes > 0 ? iou_sum / static_cast<double>(boxes) : 0; }
  static double share(int64_t part, int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
  }
};

struct NanoScores {
  std::vector<SkillScore> skills;  // by name
  SkillScore all;
  int64_t unknown_ids = 0;  // answers to no question of the records
};

// Of several answers with one id the last counts.
NanoScores score_nano(std::span<const NanoRecord> records, std::span<const NanoAnswer> answers);
std::string scores_text(const NanoScores& scores);

// Is `answer` right, by the measure of its record?
bool is_right(const NanoRecord& record, std::string_view answer);
double intersection_over_union(const Box& a, const Box& b);

// Whether two computations of one model say the same.
struct AnswerAgreement {
  int64_t common = 0, equal = 0;  // ids that both have; those with the same text
  int64_t judged_alike = 0;       // right in both or wrong in both; of answers to these records
  // Of them those whose margin, the smaller one where both know it, exceeds `threshold`.
  int64_t sure = 0, sure_equal = 0;
  double threshold = 0;
  std::vector<std::string> different_ids;  // the first ten
};
AnswerAgreement compare_answers(std::span<const NanoRecord> records, std::span<const NanoAnswer> a,
                                std::span<const NanoAnswer> b, double threshold);

}  // namespace vl2::eval

#include "eval/nano_skills.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <unordered_map>

#include "core/text/utf8.h"

namespace vl2::eval {
namespace {

int64_t area(const Box& box) { return static_cast<int64_t>(box.x2 - box.x1) * (box.y2 - box.y1); }

std::vector<Box> boxes_of(std::string_view answer) {
  std::vector<Box> boxes;
  for (const GroundedObject& object : parse_grounding(answer).objects)
    boxes.insert(boxes.end(), object.boxes.begin(), object.boxes.end());
  return boxes;
}

// For every expected box the IoU with the answered box it is paired with: best pairs first, each box once.
std::vector<double> paired_overlaps(const std::vector<Box>& expected, const std::vector<Box>& answered) {
  struct Pair {
    double iou;
    size_t expected, answered;
  };
  std::vector<Pair> pairs;
  // An answer may be pages of boxes; no right one has more than a few.
  const size_t considered = std::min<size_t>(answered.size(), 256);
  for (size_t e = 0; e < expected.size(); ++e)
    for (size_t a = 0; a < considered; ++a)
      if (const double iou = intersection_over_union(expected[e], answered[a]); iou > 0) pairs.push_back({iou, e, a});
  std::stable_sort(pairs.begin(), pairs.end(), [](const Pair& x, const Pair& y) { return x.iou > y.iou; });
  std::vector<double> overlaps(expected.size(), 0.0);
  std::vector<bool> used(considered, false);
  for (const Pair& pair : pairs) {
    if (overlaps[pair.expected] > 0 || used[pair.answered]) continue;
    overlaps[pair.expected] = pair.iou;
    used[pair.answered] = true;
  }
  return overlaps;
}

// The answer as a number; "about 40" is none.
std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

bool all_found(const std::vector<double>& overlaps) {
  return std::all_of(overlaps.begin(), overlaps.end(), [](double iou) { return iou > 0.5; });
}

void add(SkillScore& score, const NanoRecord& record, const NanoAnswer* answer) {
  ++score.questions;
  score.boxes += std::ssize(record.boxes);
  if (answer == nullptr) return;
  ++score.answered;
  score.right += is_right(record, answer->text) ? 1 : 0;
  score.exact += python_strip(answer->text) == python_strip(record.expected) ? 1 : 0;
  if (record.boxes.empty()) return;
  for (const double iou : paired_overlaps(record.boxes, boxes_of(answer->text))) {
    score.iou_sum += iou;
    score.boxes_found += iou > 0.5 ? 1 : 0;
  }
}

std::string percent(int64_t part, int64_t whole) {
  return fmt::format("{:.1f} %", 100 * SkillScore::share(part, whole));
}

std::string row(const SkillScore& s) {
  const bool boxes = s.boxes > 0;
  return fmt::format("{:<12}{:>10}{:>10}{:>10}{:>12}{:>10}\n", s.task, s.questions, percent(s.right, s.questions),
                     percent(s.exact, s.questions), boxes ? percent(s.boxes_found, s.boxes) : "-",
                     boxes ? fmt::format("{:.3f}", s.mean_iou()) : "-");
}

}  // namespace

double intersection_over_union(const Box& a, const Box& b) {
  const int64_t wide = std::min(a.x2, b.x2) - std::max(a.x1, b.x1), high = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  if (wide <= 0 || high <= 0) return 0;
  const int64_t common = wide * high;
  return static_cast<double>(common) / static_cast<double>(area(a) + area(b) - common);
}

bool is_right(const NanoRecord& record, std::string_view answer) {
  const std::string_view text = python_strip(answer);
  if (!record.boxes.empty()) {
    const std::vector<Box> answered = boxes_of(answer);
    return answered.size() == record.boxes.size() && all_found(paired_overlaps(record.boxes, answered));
  }
  if (record.value) {
    const std::optional<double> number = number_of(text);
    return number && std::abs(*number - *record.value) <= record.tolerance * std::abs(*record.value);
  }
  return text == python_strip(record.expected);
}

NanoScores score_nano(std::span<const NanoRecord> records, std::span<const NanoAnswer> answers) {
  std::unordered_map<std::string_view, const NanoAnswer*> by_id;
  for (const NanoAnswer& answer : answers) by_id[answer.id] = &answer;
  NanoScores scores;
  scores.all.task = "all";
  std::unordered_map<std::string_view, size_t> place;
  size_t known = 0;
  for (const NanoRecord& record : records) {
    const auto [at, is_new] = place.emplace(record.task, scores.skills.size());
    if (is_new) {
      scores.skills.emplace_back();
      scores.skills.back().task = record.task;
    }
    const auto found = by_id.find(record.id);
    const NanoAnswer* answer = found == by_id.end() ? nullptr : found->second;
    known += answer != nullptr ? 1 : 0;
    add(scores.skills[at->second], record, answer);
    add(scores.all, record, answer);
  }
  std::sort(scores.skills.begin(), scores.skills.end(),
            [](const SkillScore& a, const SkillScore& b) { return a.task < b.task; });
  scores.unknown_ids = static_cast<int64_t>(by_id.size() - known);
  return scores;
}

std::string scores_text(const NanoScores& scores) {
  std::string text = fmt::format("{:<12}{:>10}{:>10}{:>10}{:>12}{:>10}\n", "skill", "questions", "right", "exact",
                                 "IoU > 0.5", "mean IoU");
  for (const SkillScore& skill : scores.skills) text += row(skill);
  text += row(scores.all);
  if (scores.all.answered < scores.all.questions)
    text += fmt::format("{} questions have no answer and count as wrong\n", scores.all.questions - scores.all.answered);
  if (scores.unknown_ids > 0) text += fmt::format("{} answers belong to no question\n", scores.unknown_ids);
  return text;
}

AnswerAgreement compare_answers(std::span<const NanoRecord> records, std::span<const NanoAnswer> a,
                                std::span<const NanoAnswer> b, double threshold) {
  AnswerAgreement agreement;
  agreement.threshold = threshold;
  std::unordered_map<std::string_view, const NanoRecord*> questions;
  for (const NanoRecord& record : records) questions[record.id] = &record;
  std::unordered_map<std::string_view, const NanoAnswer*> by_id;
  for (const NanoAnswer& answer : b) by_id[answer.id] = &answer;
  for (const NanoAnswer& answer : a) {
    const auto found = by_id.find(answer.id);
    if (found == by_id.end()) continue;
    const NanoAnswer& other = *found->second;
    const bool equal = answer.text == other.text;
    ++agreement.common;
    agreement.equal += equal ? 1 : 0;
    const auto question = questions.find(answer.id);
    if (question != questions.end() &&
        is_right(*question->second, answer.text) == is_right(*question->second, other.text))
      ++agreement.judged_alike;
    if (!equal && agreement.different_ids.size() < 10) agreement.different_ids.push_back(answer.id);
    std::optional<double> margin = answer.margin ? answer.margin : other.margin;
    if (answer.margin && other.margin) margin = std::min(*answer.margin, *other.margin);
    if (!margin || *margin <= threshold) continue;
    ++agreement.sure;
    agreement.sure_equal += equal ? 1 : 0;
  }
  return agreement;
}

}  // namespace vl2::eval

#include "engine/runtime/drafter.h"

#include <algorithm>

namespace vl2 {
namespace {

// Measured on two cores with a model of Tiny's shape: 1, 1.60, 1.91, 2.19, ... 3.19 for 8 rows.
constexpr double kSecondRow = 0.6;
constexpr double kFurtherRow = 0.3;
constexpr double kMostScale = 3;  // then a row costs as much as a step of its own

constexpr double kMeasuredSteps = 8;  // an average over about so many
constexpr double kCheaperSteps = 32;  // and over more where rows look cheap: the same token again wakes no new expert
constexpr double kForgottenAfter = 256;  // steps without drafts: one bad measurement must not end them for good

constexpr double kRemembered = 64;  // guesses of a length; older ones fade
constexpr double kAssumedGuesses = 2;
constexpr double kHalfSure = 8;  // a match of so many tokens is right one time of two
// Both sides of the bargain are estimates. In texts, code, tables and boxes of 300 to 1800 tokens, with the costs
// above, nothing lost more than 0.2 % with this, and 0.6 % with 1; the gains were nearly the same.
constexpr double kWorthIt = 1.05;

double assumed_extra(int64_t rows) { return kSecondRow + kFurtherRow * static_cast<double>(rows - 2); }

}  // namespace

void StepCost::measured(int64_t rows, double ms) {
  if (rows == 1) {
    ++one_row_steps_;
    // An interruption by somebody else is no property of ours.
    const double used = one_row_steps_ == 1 ? ms : std::min(ms, 2 * one_row_ms_);
    one_row_ms_ += (used - one_row_ms_) / std::min(static_cast<double>(one_row_steps_), kMeasuredSteps);
    scale_ += (1 - scale_) / kForgottenAfter;
  } else if (rows > 1 && one_row_ms_ > 0) {
    const double scale = std::clamp((ms / one_row_ms_ - 1) / assumed_extra(rows), 0.0, kMostScale);
    scale_ += (scale - scale_) / (scale > scale_ ? kMeasuredSteps : kCheaperSteps);
  }
}

double StepCost::of(int64_t rows) const { return rows <= 1 ? 1 : 1 + scale_ * assumed_extra(rows); }

Drafter::Drafter(Speculation speculation, std::span<const int32_t> prompt, std::span<const uint8_t> mask)
    : speculation_(speculation) {
  if (speculation_ == Speculation::kOff) return;
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (i < mask.size() && mask[i] != 0) {
      lookup_.push_vision();
    } else {
      lookup_.push(prompt[i]);
    }
  }
  match_ = lookup_.match();
}

// Before much is known: the longer a match, the surer.
double Drafter::hit_rate(int64_t length) const {
  length = std::min(length, PromptLookup::kLongestMatch);
  const auto matched = static_cast<double>(length);
  const Record& r = records_[static_cast<size_t>(length - 1)];
  return (r.hits + kAssumedGuesses * matched / (matched + kHalfSure)) / (r.tries + kAssumedGuesses);
}

void Drafter::push(int32_t id) {
  if (speculation_ == Speculation::kOff) return;
  if (match_.length > 0) {
    Record& r = records_[static_cast<size_t>(match_.length - 1)];
    r.tries += 1;
    r.hits += lookup_.continuation(match_, 1).front() == id ? 1 : 0;
    if (r.tries >= kRemembered) {
      r.tries /= 2;
      r.hits /= 2;
    }
  }
  lookup_.push(id);
  match_ = lookup_.match();
}

std::vector<int32_t> Drafter::draft(int64_t most, int64_t rows, const StepCost& cost) const {
  std::vector<int32_t> ids = lookup_.continuation(match_, most);
  if (speculation_ == Speculation::kAlways) return ids;
  size_t chosen = 0;
  double tokens = static_cast<double>(rows), right = 1;  // right: all drafts up to here
  double best = kWorthIt * tokens / cost.of(rows);
  for (size_t i = 0; i < ids.size(); ++i) {
    right *= hit_rate(match_.length + static_cast<int64_t>(i));
    tokens += right;
    const double speed = tokens / cost.of(rows + static_cast<int64_t>(i) + 1);
    if (speed <= best) continue;
    best = speed;
    chosen = i + 1;
  }
  ids.resize(chosen);
  return ids;
}

}  // namespace vl2

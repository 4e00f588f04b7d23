// How many of an answer's next tokens a step tries at once. They are drafted by prompt lookup and verified by the step
// itself: a wrong one costs the time of its row and nothing else. So only time depends on what is decided here.
//
// A draft is taken where it should save time. How likely it is right: how often guesses were right in this answer after
// matches of the same length; every token tells that, for guesses that were not tried as well, so text that does not
// repeat itself costs nothing to find out about. What it costs: the time of steps with more than one row, as measured.
//
// The engine's thread only.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/runtime/prompt_lookup.h"
#include "engine/runtime/request.h"

namespace vl2 {

// Drafted tokens of a step, of all its sequences together.
inline constexpr int64_t kMostDrafts = 8;

// The time of a decode step by its rows, in steps of one row. Starts from what a mixture of experts costs that lies in
// memory: the second row wakes other experts, and so does each further one. Shared by all sequences.
class StepCost {
 public:
  // A step of nothing but decode rows took this long.
  void measured(int64_t rows, double ms);
  double of(int64_t rows) const;  // of(1) is 1

 private:
  double one_row_ms_ = 0;
  int64_t one_row_steps_ = 0;
  double scale_ = 1;  // of the assumed cost of further rows
};

// One sequence's drafts.
class Drafter {
 public:
  // mask: 1 for places of vision tokens; may be empty.
  Drafter(Speculation speculation, std::span<const int32_t> prompt, std::span<const uint8_t> mask);

  // The answer's next token.
  void push(int32_t id);

  // The tokens after that one, as guessed: at most `most`, for a step that has `rows` decode rows without them.
  std::vector<int32_t> draft(int64_t most, int64_t rows, const StepCost& cost) const;

 private:
  struct Record {
    double tries = 0, hits = 0;
  };
  double hit_rate(int64_t length) const;

  Speculation speculation_;
  PromptLookup lookup_;
  PromptLookup::Match match_;
  std::array<Record, PromptLookup::kLongestMatch> records_;  // of guesses, by the length of their match
};

}  // namespace vl2

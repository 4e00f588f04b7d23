// Tokens from rows of logits, by the rules of engine/ops/choice.h.
//
// Scores are float32; a weight e^x is a whole number of 2^-45 or so, so that sums do not depend on their order: the
// same row, rule and draw give the same token every time.
#pragma once

#include "engine/cuda/kernels/matrix.h"

namespace vl2::cuda {

inline constexpr int kMostLikely = 20;

struct ChoiceOfRow {
  double log_sum_exp;
  float logit;
  int32_t id;  // -1: none
  float likely_logits[kMostLikely];
  int32_t likely_ids[kMostLikely];
};

// Which of the rows' choices are more than the largest logit, and by which rule.
struct RuleOfRow {
  double uniform;
  double top_p;               // 1: off
  float inverse_temperature;  // 0: the largest
  float least;                // ln of min_p
  int32_t top_k;              // 0: off
  int32_t most_likely;
  int32_t plain;  // what choose_largest() has found stays
};

struct EditOfLogit {
  int32_t row, id;
  float bias, penalty, less;
};

// Of each row the first of the largest of its first num_ids, and ln of the sum of exp() of all.
void choose_largest(Stream stream, ChoiceOfRow* out, const RowsView& x, int64_t num_ids);
// logit <-> kept[i] of each edit: first what it was goes there and the edited logit in its place, then (undo) back.
void edit_logits(Stream stream, const RowsView& x, const EditOfLogit* edits, float* kept, int64_t count, bool undo);
// Of edited rows, after choose_largest(): the ids.
void choose_by_rule(Stream stream, ChoiceOfRow* out, const RowsView& x, int64_t num_ids, const RuleOfRow* rules);
// Of unchanged rows again: the chosen ids' logits, and the most likely ids.
void name_choices(Stream stream, ChoiceOfRow* out, const RowsView& x, const RuleOfRow* rules);

}  // namespace vl2::cuda

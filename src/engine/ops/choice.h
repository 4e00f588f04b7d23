// How a token is chosen from a row of logits, for backends whose logits would be dear to fetch. The rules are those of
// engine/runtime/sampler.h, in its order: bias, repetition penalty, what is taken off, temperature, top-k, top-p,
// min-p, one draw.
#pragma once

#include <cstdint>
#include <vector>

namespace vl2 {

inline constexpr int64_t kMostLikelyAtMost = 20;

// score = logit + bias, times `penalty` where that is negative and divided by it elsewhere, - less. At most one an id.
struct LogitEdit {
  int32_t id = 0;
  float bias = 0;
  float penalty = 1;
  float less = 0;  // infinity: not to be chosen
};

// As it stands, the first of the largest.
struct ChoiceRule {
  double temperature = 0;  // 0: the largest, and what follows but edits and most_likely does not count
  int64_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
  double uniform = 0;       // what is drawn, [0, 1): tokens are in the order of their ids
  int64_t most_likely = 0;  // so many of all unchanged logits, the largest first, the lower id first among equals
  std::vector<LogitEdit> edits = {};

  bool takes_largest() const { return temperature == 0 && edits.empty() && most_likely == 0; }
};

struct IdLogit {
  int32_t id = 0;
  float logit = 0;
};

// Logits are the row's own, without bias and penalties.
struct ChosenId {
  int32_t id = -1;  // none: a logit is NaN or +inf, or all that the rule leaves are -inf; the row can say which
  float logit = 0;
  double log_sum_exp = 0;  // of all of the row; not finite for NaN, +inf, and nothing but -inf
  std::vector<IdLogit> most_likely = {};
};

}  // namespace vl2

// The learning rate of every optimiser step: linear warm-up, then one of three shapes.
#pragma once

#include <cstdint>

#include "train/recipe/recipe.h"

namespace vl2::train {

// A value; copy freely.
//
// Steps count from 0. Warm-up of w steps: step s < w has (s + 1) / w of the learning rate, so the first is not lost and
// the last of them has it all. Then
//   constant  the learning rate;
//   cosine    from the learning rate at step w down to floor times it at the last step;
//   step      times factor from the first step on that has a share `at` of all steps behind it.
class Schedule {
 public:
  // 0 <= warmup_steps <= total_steps, 1 <= total_steps.
  Schedule(const Scheduler& scheduler, double learning_rate, int64_t warmup_steps, int64_t total_steps);
  Schedule(const Recipe& recipe, int64_t total_steps);

  double at(int64_t step) const;  // beyond the last step: as at the last
  int64_t total_steps() const { return total_; }
  int64_t warmup_steps() const { return warmup_; }

 private:
  Scheduler scheduler_;
  double learning_rate_;
  int64_t warmup_, total_;
};

}  // namespace vl2::train

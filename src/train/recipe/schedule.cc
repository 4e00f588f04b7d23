#include "train/recipe/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace vl2::train {

Schedule::Schedule(const Scheduler& scheduler, double learning_rate, int64_t warmup_steps, int64_t total_steps)
    : scheduler_(scheduler), learning_rate_(learning_rate), warmup_(warmup_steps), total_(total_steps) {
  VL2_CHECK(total_ >= 1 && warmup_ >= 0 && warmup_ <= total_, "warm-up {} of {} steps", warmup_, total_);
}

Schedule::Schedule(const Recipe& recipe, int64_t total_steps)
    : Schedule(recipe.scheduler, recipe.learning_rate, resolve_warmup(recipe, total_steps), total_steps) {}

double Schedule::at(int64_t step) const {
  VL2_CHECK(step >= 0, "step {}", step);
  step = std::min(step, total_ - 1);
  if (step < warmup_) return learning_rate_ * static_cast<double>(step + 1) / static_cast<double>(warmup_);
  switch (scheduler_.type) {
    case SchedulerType::kConstant:
      return learning_rate_;
    case SchedulerType::kCosine: {
      const int64_t length = total_ - 1 - warmup_;
      if (length == 0) return learning_rate_;
      const double progress = static_cast<double>(step - warmup_) / static_cast<double>(length);
      const double shape = 0.5 * (1 + std::cos(std::numbers::pi * progress));
      return learning_rate_ * (scheduler_.floor + (1 - scheduler_.floor) * shape);
    }
    case SchedulerType::kStep: {
      double rate = learning_rate_;
      for (const double share : scheduler_.at)
        if (static_cast<double>(step) >= share * static_cast<double>(total_)) rate *= scheduler_.factor;
      return rate;
    }
  }
  VL2_CHECK(false, "scheduler {}", static_cast<int>(scheduler_.type));
  return 0;
}

}  // namespace vl2::train

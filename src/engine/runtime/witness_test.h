// For tests only: what an engine did, step by step.
#pragma once

#include <condition_variable>
#include <limits>
#include <mutex>
#include <vector>

#include "engine/runtime/engine_stats.h"

namespace vl2 {

// Writes down what happened, in the engine's own order, and holds the engine after a step of the test's choice.
class Witness : public EngineObserver {
 public:
  void on_step(const StepReport& report) override {
    std::unique_lock lock(mutex_);
    steps_.push_back(report);
    changed_.notify_all();
    changed_.wait(lock, [&] { return steps_.size() < stop_after_; });
  }
  void on_finish(const Answer& answer) override {
    const std::lock_guard lock(mutex_);
    lengths_.push_back(answer.usage.prompt_tokens);
  }

  void stop_after(size_t steps) {
    const std::lock_guard lock(mutex_);
    stop_after_ = steps;
    changed_.notify_all();
  }
  void go_on() { stop_after(std::numeric_limits<size_t>::max()); }
  void wait_for_stop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return steps_.size() >= stop_after_; });
  }
  std::vector<StepReport> steps() const {
    const std::lock_guard lock(mutex_);
    return steps_;
  }
  std::vector<int64_t> prompt_lengths() const {
    const std::lock_guard lock(mutex_);
    return lengths_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  size_t stop_after_ = std::numeric_limits<size_t>::max();
  std::vector<StepReport> steps_;
  std::vector<int64_t> lengths_;
};

}  // namespace vl2

#include "engine/runtime/channels.h"

#include <utility>

namespace vl2 {

void TokenChannel::push(TokenEvent event) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  changed_.notify_all();
}

void TokenChannel::finish(Answer answer) {
  {
    const std::lock_guard lock(mutex_);
    VL2_CHECK(!answer_, "an answer ends once");
    answer_ = std::move(answer);
  }
  changed_.notify_all();
}

std::optional<TokenEvent> TokenChannel::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !events_.empty() || answer_; });
  if (!events_.empty()) {
    TokenEvent event = std::move(events_.front());
    events_.pop_front();
    return event;
  }
  if (answer_->error) throw Error(*answer_->error);
  return std::nullopt;
}

bool TokenChannel::wait_for(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, time, [&] { return !events_.empty() || answer_; });
}

const Answer& TokenChannel::answer() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return answer_.has_value(); });
  return *answer_;
}

void RequestQueue::push(Submission submission) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) fail(ErrorCode::kCancelled, "the engine is shutting down and takes no more requests");
    submissions_.push_back(std::move(submission));
  }
  changed_.notify_one();
}

std::vector<Submission> RequestQueue::take(bool wait) {
  std::unique_lock lock(mutex_);
  if (wait) changed_.wait(lock, [&] { return !submissions_.empty() || closed_; });
  return std::exchange(submissions_, {});
}

void RequestQueue::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

bool RequestQueue::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

void StatsBoard::publish(const EngineStats& stats) {
  const std::lock_guard lock(mutex_);
  stats_ = stats;
}

EngineStats StatsBoard::read() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace vl2

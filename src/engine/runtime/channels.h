// Everything the engine's thread shares with others, and every mutex of the runtime: requests on their way in, tokens
// on their way out, numbers for whoever asks.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/runtime/engine_stats.h"
#include "engine/runtime/prefix_keys.h"
#include "engine/runtime/request.h"

namespace vl2 {

using Clock = std::chrono::steady_clock;

// One request's tokens: the engine writes, one reader reads. Never blocks the engine; holds at most the answer.
class TokenChannel {
 public:
  // --- engine ---
  void push(TokenEvent event);
  void finish(Answer answer);  // once, last
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  // --- reader ---
  std::optional<TokenEvent> next();
  bool wait_for(std::chrono::milliseconds time);
  const Answer& answer();

  // --- anyone ---
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<TokenEvent> events_;
  std::optional<Answer> answer_;  // never changes once there
  std::atomic<bool> cancelled_{false};
};

struct Submission {
  Request request;
  std::shared_ptr<TokenChannel> channel;
  Clock::time_point submitted;
  std::vector<PictureKey> picture_keys;  // of the prompt's pictures; empty where no cache asks for them
};

// Requests the engine has not looked at yet.
class RequestQueue {
 public:
  void push(Submission submission);  // kCancelled once closed
  // Everything that came in. With `wait`, sleeps until there is something or the queue is closed.
  std::vector<Submission> take(bool wait);
  void close();
  bool closed() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Submission> submissions_;
  bool closed_ = false;
};

// The engine publishes after each step, anyone reads.
class StatsBoard {
 public:
  void publish(const EngineStats& stats);
  EngineStats read() const;

 private:
  mutable std::mutex mutex_;
  EngineStats stats_;
};

}  // namespace vl2

#include "core/base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "core/base/error.h"

namespace vl2 {
namespace {

// About 50 us: longer than the gap between two regions of a decode step, shorter than anybody notices.
constexpr int kSpins = 20000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

int ThreadPool::default_num_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

ThreadPool::ThreadPool(int num_threads)
    : num_threads_(num_threads), errors_(static_cast<size_t>(std::max(1, num_threads))) {
  if (num_threads < 1 || num_threads > 1024)
    fail(ErrorCode::kInvalidArgument, "threads: {} is not between 1 and 1024", num_threads);
  for (int t = 1; t < num_threads_; ++t) workers_.emplace_back([this, t] { work(t); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_seq_cst);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_share(int thread) {
  try {
    for (int64_t task = thread; task < num_tasks_; task += num_threads_) job_.call(job_.context, task, thread);
  } catch (...) {
    errors_[static_cast<size_t>(thread)] = std::current_exception();
  }
}

void ThreadPool::run(Job job, int64_t num_tasks) {
  if (num_tasks <= 0) return;
  job_ = job;
  num_tasks_ = num_tasks;
  const bool alone = num_threads_ == 1 || num_tasks == 1;
  if (!alone) {
    unfinished_.store(num_threads_ - 1, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_seq_cst) > 0) generation_.notify_all();
    run_share(0);
    for (int spins = 0; unfinished_.load(std::memory_order_acquire) != 0; ++spins) {
      if (spins < kSpins) {
        pause();
      } else {
        std::this_thread::yield();  // more runnable threads than cores: let the worker finish
      }
    }
  } else {
    for (int64_t task = 0; task < num_tasks; ++task) job_.call(job_.context, task, 0);
    return;
  }
  for (std::exception_ptr& error : errors_)
    if (error) std::rethrow_exception(std::exchange(error, nullptr));
}

void ThreadPool::work(int thread) {
  uint32_t seen = 0;
  while (true) {
    for (int spins = 0; generation_.load(std::memory_order_acquire) == seen; ++spins) {
      if (spins < kSpins) {
        pause();
        continue;
      }
      sleeping_.fetch_add(1, std::memory_order_seq_cst);
      generation_.wait(seen, std::memory_order_seq_cst);
      sleeping_.fetch_sub(1, std::memory_order_seq_cst);
    }
    ++seen;
    if (stop_.load(std::memory_order_relaxed)) return;
    run_share(thread);
    unfinished_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace vl2

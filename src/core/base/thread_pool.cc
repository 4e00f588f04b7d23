#include "core/base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <cstdint>
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
  ranges_ = std::make_unique<Range[]>(static_cast<size_t>(num_threads));
  for (int t = 1; t < num_threads_; ++t) workers_.emplace_back([this, t] { work(t); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_seq_cst);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

bool ThreadPool::Range::take_first(int64_t& task) {
  uint64_t now = tasks.load(std::memory_order_acquire);
  while ((now >> 32) < (now & 0xffffffff)) {
    if (!tasks.compare_exchange_weak(now, now + (uint64_t{1} << 32), std::memory_order_acq_rel)) continue;
    task = static_cast<int64_t>(now >> 32);
    return true;
  }
  return false;
}

bool ThreadPool::Range::take_last(int64_t& task) {
  uint64_t now = tasks.load(std::memory_order_acquire);
  while ((now >> 32) < (now & 0xffffffff)) {
    if (!tasks.compare_exchange_weak(now, now - 1, std::memory_order_acq_rel)) continue;
    task = static_cast<int64_t>(now & 0xffffffff) - 1;
    return true;
  }
  return false;
}

// Takes tasks until there are none. A worker that comes late may find those of the next region: they are as good.
void ThreadPool::run_tasks(int thread) {
  int64_t task = 0, done = 0;
  const auto call = [&] {
    try {
      job_.call(job_.context, task, thread);
    } catch (...) {
      if (!errors_[static_cast<size_t>(thread)]) errors_[static_cast<size_t>(thread)] = std::current_exception();
    }
    ++done;
  };
  while (ranges_[static_cast<size_t>(thread)].take_first(task)) call();
  for (int other = 1; other < num_threads_; ++other)
    while (ranges_[static_cast<size_t>((thread + other) % num_threads_)].take_last(task)) call();
  if (done > 0) unfinished_.fetch_sub(done, std::memory_order_release);
}

void ThreadPool::run(Job job, int64_t num_tasks) {
  if (num_tasks <= 0) return;
  if (num_threads_ == 1 || num_tasks == 1) {
    for (int64_t task = 0; task < num_tasks; ++task) job.call(job.context, task, 0);
    return;
  }
  VL2_CHECK(num_tasks <= INT32_MAX, "[thread pool] {} tasks in one region", num_tasks);
  job_ = job;
  unfinished_.store(num_tasks, std::memory_order_relaxed);
  for (int t = 0; t < num_threads_; ++t) {
    const auto first = static_cast<uint64_t>(first_task(num_tasks, t));
    const auto end = static_cast<uint64_t>(first_task(num_tasks, t + 1));
    ranges_[static_cast<size_t>(t)].tasks.store(first << 32 | end, std::memory_order_release);
  }
  generation_.fetch_add(1, std::memory_order_seq_cst);
  if (sleeping_.load(std::memory_order_seq_cst) > 0) generation_.notify_all();
  run_tasks(0);
  for (int spins = 0; unfinished_.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kSpins) {
      pause();
    } else {
      std::this_thread::yield();  // more runnable threads than cores: let the worker finish
    }
  }
  std::exception_ptr first;
  for (std::exception_ptr& error : errors_)
    if (std::exception_ptr here = std::exchange(error, nullptr); here && !first) first = here;
  if (first) std::rethrow_exception(first);
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
    seen = generation_.load(std::memory_order_acquire);  // regions may have passed without this worker
    if (stop_.load(std::memory_order_relaxed)) return;
    run_tasks(thread);
  }
}

}  // namespace vl2

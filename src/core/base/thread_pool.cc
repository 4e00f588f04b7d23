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
  claims_ = std::make_unique<Claim[]>(static_cast<size_t>(num_threads));
  for (int t = 1; t < num_threads_; ++t) workers_.emplace_back([this, t] { work(t); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_seq_cst);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

// True for one thread alone. Whoever takes a share of a region may read the job: the region lasts until all shares are
// done. A worker that comes too late finds its share taken and touches nothing.
bool ThreadPool::claim(int share, uint32_t region) {
  uint32_t before = region - 1;
  return claims_[static_cast<size_t>(share)].region.compare_exchange_strong(before, region, std::memory_order_acq_rel);
}

void ThreadPool::run_share(int share, int thread) {
  try {
    for (int64_t task = share; task < num_tasks_; task += num_threads_) job_.call(job_.context, task, thread);
  } catch (...) {
    errors_[static_cast<size_t>(share)] = std::current_exception();
  }
}

void ThreadPool::run(Job job, int64_t num_tasks) {
  if (num_tasks <= 0) return;
  job_ = job;
  num_tasks_ = num_tasks;
  const bool alone = num_threads_ == 1 || num_tasks == 1;
  if (!alone) {
    unfinished_.store(num_threads_ - 1, std::memory_order_relaxed);
    const uint32_t region = generation_.fetch_add(1, std::memory_order_seq_cst) + 1;
    if (sleeping_.load(std::memory_order_seq_cst) > 0) generation_.notify_all();
    run_share(0, 0);
    for (int share = 1; share < num_threads_; ++share) {
      if (!claim(share, region)) continue;
      run_share(share, 0);
      unfinished_.fetch_sub(1, std::memory_order_relaxed);
    }
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
    seen = generation_.load(std::memory_order_acquire);  // regions may have passed without this worker
    if (stop_.load(std::memory_order_relaxed)) return;
    if (!claim(thread, seen)) continue;
    run_share(thread, thread);
    unfinished_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace vl2

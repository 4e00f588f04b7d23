// The one parallel construct of the kernels: run fn(task) for task in [0, num_tasks).
//
// Tasks are dealt statically in shares (share t has tasks t, t + T, ...). The calling thread takes part: it runs share
// 0, then every share whose worker has not woken up yet, so that a busy machine costs speed and not a time slice per
// region. fn's `thread` says whose scratch to use and nothing else: no result may depend on it, or it would depend on
// timing. Workers spin briefly after a region, then sleep on a futex. One caller at a time; regions do not nest.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace vl2 {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);  // >= 1; spawns num_threads - 1 workers
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // fn(int64_t task, int thread). An exception thrown by fn is rethrown here after the region.
  template <typename Fn>
  void parallel_for(int64_t num_tasks, const Fn& fn) {
    run({&fn, [](const void* context, int64_t task, int thread) { (*static_cast<const Fn*>(context))(task, thread); }},
        num_tasks);
  }

  static int default_num_threads();  // cores this process may use

 private:
  struct Job {
    const void* context;
    void (*call)(const void*, int64_t, int);
  };
  void run(Job job, int64_t num_tasks);
  void work(int thread);
  bool claim(int share, uint32_t region);
  void run_share(int share, int thread);

  int num_threads_;
  Job job_{};
  int64_t num_tasks_ = 0;
  std::atomic<uint32_t> generation_{0};
  std::atomic<int> unfinished_{0};
  std::atomic<int> sleeping_{0};
  struct alignas(64) Claim {
    std::atomic<uint32_t> region{0};  // the last one whose share somebody took
  };
  std::unique_ptr<Claim[]> claims_;  // one a share
  std::atomic<bool> stop_{false};
  std::vector<std::exception_ptr> errors_;  // one slot per thread
  std::vector<std::thread> workers_;
};

}  // namespace vl2

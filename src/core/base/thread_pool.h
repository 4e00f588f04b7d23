// The one parallel construct of the kernels: run fn(task) for task in [0, num_tasks).
//
// Tasks are dealt statically (thread t runs tasks t, t + T, ...), so a result never depends on timing. The calling
// thread takes part. Workers spin briefly after a region, then sleep on a futex. One caller at a time; regions do not
// nest.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
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
  void run_share(int thread);

  int num_threads_;
  Job job_{};
  int64_t num_tasks_ = 0;
  std::atomic<uint32_t> generation_{0};
  std::atomic<int> unfinished_{0};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::exception_ptr> errors_;  // one slot per thread
  std::vector<std::thread> workers_;
};

}  // namespace vl2

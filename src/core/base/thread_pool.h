// The one parallel construct of the kernels: run fn(task) for task in [0, num_tasks).
//
// Every thread owns an equal run of neighbouring tasks and takes them front to back, so that what it reads lies in
// order; a thread that has none left takes the last task of another's run, so that a region does not wait for a core
// that somebody else slowed down. Who runs a task depends on timing, therefore no result may: fn's `thread` says whose
// scratch to use and nothing else. The calling thread takes part. Workers spin briefly after a region, then sleep on a
// futex. One caller at a time; regions do not nest.
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

  // Of num_tasks, the first that `thread` owns; of num_threads(): num_tasks.
  int64_t first_task(int64_t num_tasks, int thread) const { return num_tasks * thread / num_threads_; }

  // fn(int64_t task, int thread); at most 2^31 tasks. An exception thrown by fn is rethrown here after the region.
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
  void run_tasks(int thread);

  // Tasks nobody has taken yet: first << 32 | end. Whoever takes one may read the job, because the region lasts until
  // all are done.
  struct alignas(64) Range {
    std::atomic<uint64_t> tasks{0};
    bool take_first(int64_t& task);
    bool take_last(int64_t& task);
  };

  int num_threads_;
  Job job_{};
  std::atomic<uint32_t> generation_{0};
  std::atomic<int64_t> unfinished_{0};  // tasks
  std::atomic<int> sleeping_{0};
  std::unique_ptr<Range[]> ranges_;  // one a thread
  std::atomic<bool> stop_{false};
  std::vector<std::exception_ptr> errors_;  // one a thread: the first it met in this region
  std::vector<std::thread> workers_;
};

}  // namespace vl2

#include "train/optim/side_by_side.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <vector>

namespace vl2::train {

void side_by_side(int64_t workers, int64_t items, bool fixed, const std::function<void(int64_t, int64_t)>& work) {
  if (workers <= 1) {
    for (int64_t item = 0; item < items; ++item) work(0, item);
    return;
  }
  const int threads = at::get_num_threads();
  const int each = std::max(1, threads / static_cast<int>(workers));
  std::atomic<int64_t> next{0};
  std::vector<std::exception_ptr> errors(static_cast<size_t>(workers));
  std::vector<std::thread> running;
  for (int64_t w = 0; w < workers; ++w) {
    running.emplace_back([&, w] {
      try {
        at::set_num_threads(each);  // of this thread
        if (fixed)
          for (int64_t item = w; item < items; item += workers) work(w, item);
        else
          for (int64_t item; (item = next++) < items;) work(w, item);
      } catch (...) {
        errors[static_cast<size_t>(w)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : running) thread.join();
  at::set_num_threads(threads);
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace vl2::train

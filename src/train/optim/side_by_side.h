// Independent pieces of work on threads of their own, each with its share of libtorch's threads.
#pragma once

#include <cstdint>
#include <functional>

namespace vl2::train {

// Calls work(worker, item) for every item from 0 to items. Worker w of several runs on a thread of its own and computes
// with threads / workers threads, at least one; threads is what at::get_num_threads() says here. A single worker is the
// caller. Items are handed out in order, `fixed`: item i to worker i % workers, else to whoever is free. What one
// throws, this throws, once all have ended.
void side_by_side(int64_t workers, int64_t items, bool fixed,
                  const std::function<void(int64_t worker, int64_t item)>& work);

}  // namespace vl2::train

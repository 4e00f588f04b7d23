#include "core/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>

#include "core/base/error.h"

namespace vl2 {
namespace {

TEST(ThreadPool, EveryTaskRunsOnceWhoeverWakesLate) {
  for (const int threads : {1, 2, 3, 24}) {  // 24: more than any test machine has cores to spare
    ThreadPool pool(threads);
    for (int64_t region = 0; region < 3000; ++region) {
      const int64_t count = region % 67;
      std::vector<int> runs(static_cast<size_t>(count), 0);
      pool.parallel_for(count, [&](int64_t task, int) { ++runs[static_cast<size_t>(task)]; });
      ASSERT_EQ(runs, std::vector<int>(static_cast<size_t>(count), 1)) << threads << " threads, region " << region;
    }
  }
}

TEST(ThreadPool, AThreadNumberIsInOneHandAtATime) {
  ThreadPool pool(8);
  std::vector<std::atomic<int>> inside(8);
  std::atomic<bool> shared{false};
  for (int region = 0; region < 2000; ++region)
    pool.parallel_for(40, [&](int64_t, int thread) {
      if (inside[static_cast<size_t>(thread)].fetch_add(1) != 0) shared = true;
      inside[static_cast<size_t>(thread)].fetch_sub(1);
    });
  EXPECT_FALSE(shared);
}

TEST(ThreadPool, WorkersTakePart) {
  ThreadPool pool(2);
  std::atomic<int> arrived{0};
  std::thread::id ids[2];
  // Both tasks wait for each other, so the caller cannot have run both.
  pool.parallel_for(2, [&](int64_t task, int) {
    ids[task] = std::this_thread::get_id();
    arrived.fetch_add(1);
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (arrived.load() < 2 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
  });
  EXPECT_NE(ids[0], ids[1]);
}

TEST(ThreadPool, AThreadThatIsDoneTakesTasksOfALateOne) {
  ThreadPool pool(2);
  std::atomic<int> left{9};
  std::atomic<bool> alone{true};
  // The first task lasts until all others are done: half of them were dealt to its thread.
  pool.parallel_for(10, [&](int64_t task, int) {
    if (task != 0) {
      left.fetch_sub(1);
      return;
    }
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (left.load() > 0 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
    alone = left.load() > 0;
  });
  EXPECT_FALSE(alone);
}

TEST(ThreadPool, ExceptionsOfSeveralTasksLeaveNoneBehind) {
  ThreadPool pool(4);
  EXPECT_THROW(pool.parallel_for(400, [](int64_t, int) { throw std::runtime_error("bad"); }), std::runtime_error);
  EXPECT_NO_THROW(pool.parallel_for(400, [](int64_t, int) {}));
}

TEST(ThreadPool, AnExceptionOfAnyTaskReachesTheCallerAndThePoolGoesOn) {
  ThreadPool pool(4);
  for (int64_t bad = 0; bad < 9; ++bad) {
    EXPECT_THROW(pool.parallel_for(9,
                                   [&](int64_t task, int) {
                                     if (task == bad) throw std::runtime_error("bad");
                                   }),
                 std::runtime_error);
    std::atomic<int> runs{0};
    pool.parallel_for(9, [&](int64_t, int) { ++runs; });
    EXPECT_EQ(runs, 9);
  }
}

TEST(ThreadPool, ImpossibleSizesAreRefused) {
  EXPECT_THROW(ThreadPool(0), Error);
  EXPECT_THROW(ThreadPool(100000), Error);
}

}  // namespace
}  // namespace vl2

// Runs kernels on the processor: every thread of a block is a fiber with a stack of its own, and fibers change only
// where threads meet (barriers, shuffles, mma). For tests on machines without a GPU.
//
// What CUDA leaves undefined is an Error here: a barrier or shuffle that some threads never reach, lanes that meet for
// different things, writes behind dynamic shared memory, launches beyond CUDA's limits. Dynamic shared memory begins as
// NaNs. A thread of a kernel launched early that never waited for the kernels before is an Error too. Every other block
// runs its threads backwards, so that a missing barrier shows. Launches of several system threads take turns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace vl2::cuda::software {

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct Index {
  unsigned x, y, z;
};

// Of the thread that runs.
extern Index threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
unsigned thread_number();  // in its block
void* dynamic_shared();    // 128-byte aligned

// call(argument) once for each thread.
void run(const char* name, dim3 grid, dim3 block, size_t shared, void (*call)(const void*), const void* argument);

// Where this thread records, its launches are kept instead of run.
using Work = std::vector<std::function<void()>>;
inline thread_local Work* recorded = nullptr;
inline void do_or_record(std::function<void()> work) {
  if (recorded == nullptr) return work();
  recorded->push_back(std::move(work));
}

enum class Meeting : uint8_t {
  kSync,
  kShuffle,
  kShuffleXor,
  kShuffleDown,
  kShuffleUp,
  kBallot,
  kLoadMatrix,
  kMma,
  kWarpgroup
};

// Waits until all lanes of `mask` are here, then one of them runs complete(lanes, mask): lanes[i] is lane i's `mine`,
// which stands on its stack until it goes on.
void meet(Meeting kind, unsigned mask, void* mine, void (*complete)(void* const* lanes, unsigned mask));
void check_source(int lane, unsigned mask);  // a shuffle's source is one of those that meet
void block_barrier();

// A thread of a kernel that was launched early waits once from begin to check, or that is an Error.
void begin_thread();
void wait_for_earlier();
void check_waited();

// Copies of cp.async: done when they are waited for, and not before.
void async_copy(void* to, const void* from, unsigned bytes, unsigned zeros);
void async_commit();
void async_wait(unsigned newest);  // all groups but the `newest` ones

// Products of wgmma: kept by each thread, done when its warpgroup waits for them. warpgroup_run calls
// multiply(threads, p) for each product p of the groups waited for: threads[i] is thread i's vector of them.
struct WarpgroupProduct {
  struct Tile {
    const std::byte *begin, *end;
  };
  float* c;
  int columns;
  bool fresh;              // c begins as zeros
  bool along_columns;      // how B lies
  uint64_t a, b;           // descriptors
  const unsigned* a_rows;  // A's registers, read when the product is done; nullptr: a describes it
  Tile tiles[2];           // the memory that is described, which no copy may go to
  unsigned group{};        // of commits
};
void warpgroup_record(WarpgroupProduct product);
void warpgroup_commit();
void warpgroup_run(unsigned newest, void (*multiply)(void* const* threads, unsigned product));

}  // namespace vl2::cuda::software

#include "engine/cuda/device/software_device.h"

#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

#include "core/base/error.h"
#include "engine/cuda/device/fiber.h"
#include "engine/cuda/device/launch.h"

namespace vl2::cuda {

void check_launch(const char*) {}
void allow_shared(const char*, const void*, size_t) {}
bool knows_to_wait(const void*) { return false; }
CurrentDevice current_device() { return {}; }

namespace software {

Index threadIdx{}, blockIdx{};
dim3 blockDim, gridDim;

namespace {

constexpr unsigned kWarp = 32, kWarpgroup = 128, kMostThreads = 1024;
constexpr size_t kMostShared = 227 << 10, kCanary = 128;
constexpr std::array<const char*, 9> kMeetingNames = {
    "__syncwarp", "__shfl", "__shfl_xor", "__shfl_down", "__shfl_up", "__ballot", "ldmatrix", "mma", "wgmma"};

enum class State : uint8_t { kReady, kMeeting, kBarrier, kDone };

struct Copy {
  void* to;
  const void* from;
  unsigned bytes, zeros, group;
};

struct Thread {
  Fiber fiber;
  Index index{};
  State state = State::kDone;
  Meeting kind = Meeting::kSync;  // what it waits in, and for whom
  unsigned mask = 0;
  std::vector<Copy> copies;
  unsigned groups = 0;
  unsigned waits = 0;  // for earlier kernels
  std::vector<WarpgroupProduct> products;
  unsigned product_groups = 0;
};

// Lanes of a warp that meet. Meetings at one time have different lanes, so the lowest lane names one.
struct Group {
  unsigned arrived = 0, mask = 0;
  Meeting kind = Meeting::kSync;
  std::array<void*, kWarp> lanes{};
};

// Threads of a warpgroup that wait for its products.
struct Warpgroup {
  unsigned arrived = 0, newest = 0;
  std::array<void*, kWarpgroup> products{};
};

struct FreeAligned {
  void operator()(std::byte* p) const { std::free(p); }
};

// What a launch works with; kept for the next one. Guarded by `mutex`.
struct Machine {
  std::mutex mutex;
  std::vector<std::unique_ptr<Thread>> threads;  // grows to the largest block
  std::vector<Group> groups;                     // [threads]: that of a warp whose lowest lane is this thread
  std::array<Warpgroup, kMostThreads / kWarpgroup> warpgroups;
  unsigned count = 0, current = 0, at_barrier = 0, done = 0;
  std::unique_ptr<std::byte, FreeAligned> shared;
  size_t shared_bytes = 0;
  bool backwards = false;
  const char* name = "";
  void (*call)(const void*) = nullptr;
  const void* argument = nullptr;
  std::exception_ptr error;
};

Machine& machine() {
  static Machine m;
  return m;
}

[[noreturn]] void wrong(const std::string& what) {
  const Machine& m = machine();
  fail(ErrorCode::kInternal, "[software device] {}, block ({}, {}, {}), thread {}: {}", m.name, blockIdx.x, blockIdx.y,
       blockIdx.z, m.current, what);
}

void thread_main() {
  Machine& m = machine();
  try {
    m.call(m.argument);
  } catch (...) {
    if (!m.error) m.error = std::current_exception();
  }
  Thread& self = *m.threads[m.current];
  self.state = State::kDone;
  ++m.done;
  self.fiber.leave(true);
}

void wait_as(State state) {
  Thread& self = *machine().threads[machine().current];
  self.state = state;
  self.fiber.leave(false);
}

// Runs the warp's threads until none of them can go on.
bool run_warp(Machine& m, unsigned warp) {
  bool any = false;
  for (bool again = true; again;) {
    again = false;
    for (unsigned i = 0; i < kWarp; ++i) {
      const unsigned t = warp * kWarp + (m.backwards ? kWarp - 1 - i : i);
      Thread& thread = *m.threads[t];
      if (thread.state != State::kReady) continue;
      m.current = t;
      threadIdx = thread.index;
      thread.fiber.enter();
      if (m.error) std::rethrow_exception(std::exchange(m.error, nullptr));
      again = any = true;
    }
  }
  return any;
}

void report_stuck(Machine& m) {
  for (unsigned t = 0; t < m.count; ++t) {
    const Thread& thread = *m.threads[t];
    m.current = t;
    if (thread.state == State::kMeeting)
      wrong(fmt::format("waits in {} for lanes {:#010x}, and not all of them come",
                        kMeetingNames[static_cast<size_t>(thread.kind)], thread.mask));
  }
  for (unsigned t = 0; t < m.count; ++t) {
    m.current = t;
    if (m.threads[t]->state != State::kBarrier)
      wrong(fmt::format("ended while {} of {} threads wait in __syncthreads", m.at_barrier, m.count));
  }
}

void run_block(Machine& m) {
  if (m.shared_bytes > 0) std::memset(m.shared.get(), 0xff, m.shared_bytes + kCanary);
  m.done = m.at_barrier = 0;
  for (unsigned t = 0; t < m.count; ++t) m.groups[t].arrived = 0;
  for (Warpgroup& group : m.warpgroups) group.arrived = 0;
  for (unsigned t = 0; t < m.count; ++t) {
    Thread& thread = *m.threads[t];
    thread.index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
    thread.state = State::kReady;
    thread.copies.clear();
    thread.groups = 0;
    thread.products.clear();
    thread.product_groups = 0;
    thread.fiber.begin(thread_main, t * 17);
  }
  const unsigned warps = m.count / kWarp;
  while (m.done < m.count) {
    bool any = false;
    for (unsigned w = 0; w < warps; ++w) any |= run_warp(m, m.backwards ? warps - 1 - w : w);
    if (m.at_barrier == m.count) {
      m.at_barrier = 0;
      for (unsigned t = 0; t < m.count; ++t) m.threads[t]->state = State::kReady;
    } else if (!any) {
      report_stuck(m);
    }
  }
  for (size_t i = 0; i < (m.shared_bytes > 0 ? kCanary : 0); ++i)
    if (m.shared.get()[m.shared_bytes + i] != std::byte{0xff})
      wrong(fmt::format("wrote behind its {} bytes of shared memory", m.shared_bytes));
}

void check_limits(const Machine& m, dim3 grid, dim3 block, size_t shared) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMostThreads || threads % kWarp != 0 || block.z > 64)
    fail(ErrorCode::kInternal, "[software device] {}: a block of {} x {} x {} threads; whole warps, 1024 at most",
         m.name, block.x, block.y, block.z);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    fail(ErrorCode::kInternal, "[software device] {}: a grid of {} x {} x {} blocks", m.name, grid.x, grid.y, grid.z);
  if (shared > kMostShared)
    fail(ErrorCode::kInternal, "[software device] {}: {} bytes of shared memory, {} at most", m.name, shared,
         kMostShared);
}

}  // namespace

void begin_thread() { machine().threads[machine().current]->waits = 0; }
void wait_for_earlier() { ++machine().threads[machine().current]->waits; }
void check_waited() {
  if (machine().threads[machine().current]->waits != 1)
    wrong(fmt::format("waited {} times for the kernels before it", machine().threads[machine().current]->waits));
}

unsigned thread_number() { return machine().current; }
void* dynamic_shared() { return machine().shared.get(); }

void run(const char* name, dim3 grid, dim3 block, size_t shared, void (*call)(const void*), const void* argument) {
  Machine& m = machine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  m.name = name;
  check_limits(m, grid, block, shared);
  m.call = call;
  m.argument = argument;
  m.count = block.x * block.y * block.z;
  while (m.threads.size() < m.count) m.threads.push_back(std::make_unique<Thread>());
  m.groups.resize(m.threads.size());
  m.shared.reset();
  m.shared_bytes = shared;
  if (shared > 0)
    m.shared.reset(static_cast<std::byte*>(std::aligned_alloc(128, (shared + kCanary + 127) / 128 * 128)));
  blockDim = block;
  gridDim = grid;
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
        run_block(m);
        m.backwards = !m.backwards;
      }
}

void meet(Meeting kind, unsigned mask, void* mine, void (*complete)(void* const* lanes, unsigned mask)) {
  Machine& m = machine();
  Thread& self = *m.threads[m.current];
  const unsigned first = m.current / kWarp * kWarp, lane = m.current % kWarp;
  if ((mask >> lane & 1) == 0) wrong(fmt::format("lane {} is not in its own mask {:#010x}", lane, mask));
  Group& group = m.groups[first + static_cast<unsigned>(std::countr_zero(mask))];
  if (group.arrived != 0 && (group.kind != kind || group.mask != mask))
    wrong(fmt::format("{} of lanes {:#010x}, but others of them are in {} of {:#010x}",
                      kMeetingNames[static_cast<size_t>(kind)], mask, kMeetingNames[static_cast<size_t>(group.kind)],
                      group.mask));
  self.kind = group.kind = kind;
  self.mask = group.mask = mask;
  group.arrived |= 1u << lane;
  group.lanes[lane] = mine;
  if (group.arrived != mask) return wait_as(State::kMeeting);
  group.arrived = 0;
  complete(group.lanes.data(), mask);
  for (unsigned rest = mask; rest != 0; rest &= rest - 1)
    m.threads[first + static_cast<unsigned>(std::countr_zero(rest))]->state = State::kReady;
}

void check_source(int lane, unsigned mask) {
  if (lane < 0 || lane > 31 || (mask >> lane & 1) == 0)
    wrong(fmt::format("a shuffle reads lane {}, which is not among {:#010x}", lane, mask));
}

void block_barrier() {
  ++machine().at_barrier;
  wait_as(State::kBarrier);
}

void async_copy(void* to, const void* from, unsigned bytes, unsigned zeros) {
  if (reinterpret_cast<uintptr_t>(to) % (bytes + zeros) != 0 ||
      reinterpret_cast<uintptr_t>(from) % (bytes + zeros) != 0)
    wrong("cp.async of addresses that are not multiples of the copy's size");
  const Machine& m = machine();
  for (unsigned first = 0; first < m.count; first += kWarpgroup)
    for (const WarpgroupProduct& product : m.threads[first]->products)
      for (const WarpgroupProduct::Tile& tile : product.tiles)
        if (to >= tile.begin && to < tile.end) wrong("cp.async to a tile whose wgmma has not been waited for");
  Thread& self = *machine().threads[machine().current];
  self.copies.push_back({to, from, bytes, zeros, self.groups});
}

void async_commit() { ++machine().threads[machine().current]->groups; }

void async_wait(unsigned newest) {
  Thread& self = *machine().threads[machine().current];
  size_t done = 0;
  for (; done < self.copies.size() && self.copies[done].group + newest < self.groups; ++done) {
    const Copy& copy = self.copies[done];
    std::memcpy(copy.to, copy.from, copy.bytes);
    std::memset(static_cast<std::byte*>(copy.to) + copy.bytes, 0, copy.zeros);
  }
  self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<std::ptrdiff_t>(done));
}

void warpgroup_record(WarpgroupProduct product) {
  Thread& self = *machine().threads[machine().current];
  product.group = self.product_groups;
  self.products.push_back(product);
}

void warpgroup_commit() { ++machine().threads[machine().current]->product_groups; }

void warpgroup_run(unsigned newest, void (*multiply)(void* const* threads, unsigned product)) {
  Machine& m = machine();
  const unsigned self = m.current, first = self / kWarpgroup * kWarpgroup;
  if (first + kWarpgroup > m.count) wrong("wgmma of a warpgroup that is not whole");
  Warpgroup& group = m.warpgroups[self / kWarpgroup];
  if (group.arrived != 0 && group.newest != newest) wrong("threads of a warpgroup wait for different products");
  group.newest = newest;
  group.products[self - first] = &m.threads[self]->products;
  m.threads[self]->kind = Meeting::kWarpgroup;
  m.threads[self]->mask = 0xffffffffu;
  if (++group.arrived < kWarpgroup) return wait_as(State::kMeeting);
  group.arrived = 0;
  const std::vector<WarpgroupProduct>& mine = m.threads[self]->products;
  const unsigned groups = m.threads[self]->product_groups;
  for (unsigned t = first; t < first + kWarpgroup; ++t)
    if (m.threads[t]->products.size() != mine.size() || m.threads[t]->product_groups != groups)
      wrong("threads of a warpgroup have different products");
  unsigned done = 0;
  for (; done < mine.size() && mine[done].group + newest < groups; ++done) multiply(group.products.data(), done);
  for (unsigned t = first; t < first + kWarpgroup; ++t) {
    std::vector<WarpgroupProduct>& products = m.threads[t]->products;
    products.erase(products.begin(), products.begin() + static_cast<std::ptrdiff_t>(done));
    m.threads[t]->state = State::kReady;
  }
}

}  // namespace software
}  // namespace vl2::cuda

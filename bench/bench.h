// One operation or kernel, timed on one thread beside what a thread of this machine can do at most.
//
// Google Benchmark runs and prints; the counters are ours: GFLOP/s, GB/s, and `share`, the time the operation takes at
// the limits (as in `vl2 bench`) divided by the time it took. The limits are measured once, at the start: for a
// comparison use `vl2 bench`, which measures them beside every repeat.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <string>

#include "core/base/random.h"
#include "engine/cpu/cpu_ops.h"
#include "engine/ops/limits.h"
#include "engine/ops/ops.h"

namespace vl2::bench {

// Of one thread.
struct Machine {
  MachineLimits limits;
  // The peak whose unit's name ends so: "_f32", "_bf16", "_int8"; 0 without one. Operations a second.
  double peak(const std::string& type) const;
};
const Machine& machine();

// A CPU backend with one thread.
std::unique_ptr<Ops> one_thread(Compute compute);

// A workspace tensor of random values from -1 to 1; lives as long as the scope around it.
Tensor random_tensor(Ops& ops, int64_t rows, int64_t cols, uint64_t seed);

// Runs `op` again and again; its floor is that of the operations it calls, with products at the peak of `type`.
void run_op(benchmark::State& state, Ops& ops, const std::string& type, const std::function<void()>& op);

// Each file's list, registered by main().
void register_linear();
void register_attention();
void register_rows();

}  // namespace vl2::bench

#include <algorithm>
#include <chrono>
#include <iostream>

#include "bench.h"
#include "engine/cpu/cpu_limits.h"

namespace vl2::bench {
namespace {

// What the operations of one call must do together.
class Sum : public OpObserver {
 public:
  void work(std::string_view, const OpWork& work) override { work_ += work; }
  void after(std::string_view, const std::string&) override {}
  const OpWork& total() const { return work_; }

 private:
  OpWork work_;
};

}  // namespace

double Machine::peak(const std::string& type) const {
  for (const auto& [unit, tflops] : limits.tflops)
    if (unit.ends_with(type)) return tflops * 1e12;
  return 0;
}

const Machine& machine() {
  static const Machine result = [] {
    CpuOptions options;
    options.threads = 1;
    return Machine{make_cpu_limit_meter(options)->measure()};
  }();
  return result;
}

std::unique_ptr<Ops> one_thread(Compute compute) {
  CpuOptions options;
  options.threads = 1;
  options.compute = compute;
  return make_cpu_ops(options);
}

Tensor random_tensor(Ops& ops, int64_t rows, int64_t cols, uint64_t seed) {
  Tensor x = ops.workspace().tensor(rows, cols);
  Random random(seed);
  std::generate_n(x.data, x.size(), [&] { return random.symmetric(); });
  return x;
}

void run_op(benchmark::State& state, Ops& ops, const std::string& type, const std::function<void()>& op) {
  Sum sum;
  ops.set_observer(&sum);
  op();
  ops.set_observer(nullptr);
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) op();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
                         static_cast<double>(state.iterations());
  const OpWork& work = sum.total();
  const double peak = machine().peak(type);
  const double compute = peak > 0 ? work.flops / peak : 0, read = work.bytes() / (machine().limits.read_gbps * 1e9);
  if (work.flops > 0) state.counters["GFLOP/s"] = work.flops / 1e9 / seconds;
  state.counters["GB/s"] = work.bytes() / 1e9 / seconds;
  state.counters["share"] = std::max(compute, read) / seconds;
}

}  // namespace vl2::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const vl2::MachineLimits& limits = vl2::bench::machine().limits;
  std::cerr << "one thread: read " << limits.read_gbps << " GB/s";
  for (const auto& [unit, tflops] : limits.tflops) std::cerr << ", " << unit << " " << tflops * 1e3 << " GFLOP/s";
  std::cerr << "\n";
  vl2::bench::register_linear();
  vl2::bench::register_attention();
  vl2::bench::register_rows();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

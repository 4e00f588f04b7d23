// How fast the kernels of matrices are on a GPU, beside what its memory and its tensor cores give: run by hand when one
// of them changes. Weights lie in several copies that are used in turn, so that none comes from the L2 cache.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/quant/panel_format.h"
#include "engine/cuda/kernels/experts.h"
#include "engine/cuda/kernels/grouped.h"
#include "engine/cuda/kernels/linear.h"
#include "engine/cuda/kernels/route.h"

namespace vl2::cuda {
namespace {

void check(cudaError_t error) {
  if (error != cudaSuccess) fail(ErrorCode::kInternal, "{}", cudaGetErrorString(error));
}

struct Memory {
  explicit Memory(int64_t bytes, int fill = 0) {
    check(cudaMalloc(&data, static_cast<size_t>(std::max<int64_t>(bytes, 256))));
    check(cudaMemset(data, fill, static_cast<size_t>(bytes)));
  }
  ~Memory() { cudaFree(data); }
  Memory(const Memory&) = delete;
  template <typename T>
  T* as() {
    return static_cast<T*>(data);
  }
  void* data = nullptr;
};

int64_t bytes_of(MatrixFormat format, int64_t rows, int64_t cols) {
  if (format == MatrixFormat::kF32) return rows * cols * 4;
  if (format == MatrixFormat::kBf16) return rows * cols * 2;
  return matrix_bytes(format == MatrixFormat::kQ8 ? PanelFormat::kQ8 : PanelFormat::kQ4, rows, cols);
}
int64_t stride_of(MatrixFormat format, int64_t cols) {
  return format == MatrixFormat::kQ8   ? panel_bytes(PanelFormat::kQ8, cols)
         : format == MatrixFormat::kQ4 ? panel_bytes(PanelFormat::kQ4, cols)
                                       : cols;
}
constexpr const char* kNames[] = {"f32", "bf16", "q8", "q4"};
const char* name(MatrixFormat format) { return kNames[static_cast<size_t>(format)]; }

// Microseconds of one run(i), i = 0, 1, ..: the middle of five rounds, each long enough to be timed.
double microseconds(const std::function<void(int)>& run, int count) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  for (int i = 0; i < count; ++i) run(i);
  std::vector<double> times;
  for (int round = 0; round < 5; ++round) {
    check(cudaEventRecord(begin, nullptr));
    for (int i = 0; i < count; ++i) run(i);
    check(cudaEventRecord(end, nullptr));
    check(cudaEventSynchronize(end));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin, end));
    times.push_back(1e3 * static_cast<double>(milliseconds) / count);
  }
  check(cudaEventDestroy(begin));
  check(cudaEventDestroy(end));
  std::nth_element(times.begin(), times.begin() + 2, times.end());
  return times[2];
}

void print(const std::string& what, double us, double bytes, double flops) {
  fmt::print("{:<58} {:>9.2f} us {:>8.0f} GB/s {:>7.1f} TFLOP/s\n", what, us, bytes / us / 1e3, flops / us / 1e6);
}

void bench_copy() {
  const int64_t bytes = int64_t{1} << 30;
  Memory a(bytes), b(bytes);
  const double us = microseconds(
      [&](int) {
        check(cudaMemcpyAsync(b.data, a.data, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, nullptr));
      },
      4);
  print("copy of 1 GiB (read and written)", us, 2.0 * static_cast<double>(bytes), 0);
}

void bench_linear(MatrixFormat format, int64_t in, int64_t out, int64_t rows, bool exact) {
  const int64_t bytes = bytes_of(format, out, in);
  const int copies = static_cast<int>(std::clamp<int64_t>((300 << 20) / bytes, 2, 64));
  Memory w(bytes * copies, 0x3c), x(rows * in * 4), y(rows * out * 4);
  const double us = microseconds(
      [&](int i) {
        FewRowsLinear args;
        args.out = y.as<float>(), args.x = x.as<float>();
        args.out_stride = out, args.x_stride = in, args.rows = rows;
        args.w = {format, w.as<std::byte>() + i % copies * bytes, out, in, stride_of(format, in)};
        args.exact = exact;
        linear_few_rows(nullptr, args);
      },
      64);
  print(fmt::format("linear_few_rows {} {} x {} -> {}{}", name(format), rows, in, out, exact ? " exact" : ""), us,
        static_cast<double>(bytes), 2.0 * static_cast<double>(rows * in * out));
}

struct Layer {
  const char* name;
  int64_t width, inner, experts, top_k, shared;
};
constexpr Layer kLayers[] = {
    {"Tiny", 1280, 896, 64, 6, 1792}, {"Small", 2048, 1408, 64, 6, 2816}, {"Base", 2560, 1536, 72, 6, 3072}};

void bench_experts(const Layer& l, MatrixFormat format, int64_t rows, bool exact) {
  const int64_t in = bytes_of(format, l.inner, l.width), down = bytes_of(format, l.width, l.inner);
  const int64_t shared_in = bytes_of(format, l.shared, l.width), shared_down = bytes_of(format, l.width, l.shared);
  Memory w(l.experts * (2 * in + down), 0x3c), shared(2 * shared_in + shared_down, 0x3c);
  std::vector<ExpertPointers> table;
  for (int64_t e = 0; e < l.experts; ++e) {
    std::byte* p = w.as<std::byte>() + e * (2 * in + down);
    table.push_back({p, p + in, p + 2 * in});
  }
  Memory device_table(l.experts * static_cast<int64_t>(sizeof(ExpertPointers)));
  check(cudaMemcpy(device_table.data, table.data(), table.size() * sizeof(ExpertPointers), cudaMemcpyHostToDevice));
  // Different choices each time.
  constexpr int kSets = 16;
  Random random(1);
  std::vector<int32_t> chosen;
  double read = 0;
  for (int set = 0; set < kSets; ++set) {
    std::vector<bool> used(static_cast<size_t>(l.experts));
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<int32_t> mine;
      while (static_cast<int64_t>(mine.size()) < l.top_k) {
        const auto e = static_cast<int32_t>(random.below(l.experts));
        if (std::find(mine.begin(), mine.end(), e) == mine.end()) mine.push_back(e);
      }
      std::sort(mine.begin(), mine.end());
      for (int32_t e : mine) used[static_cast<size_t>(e)] = true;
      chosen.insert(chosen.end(), mine.begin(), mine.end());
    }
    read += static_cast<double>(std::count(used.begin(), used.end(), true) * (2 * in + down) + 2 * shared_in +
                                shared_down) /
            kSets;
  }
  Memory expert(static_cast<int64_t>(chosen.size()) * 4), weight(rows * l.top_k * 4);
  check(cudaMemcpy(expert.data, chosen.data(), chosen.size() * 4, cudaMemcpyHostToDevice));
  Memory x(rows * l.width * 4), y(rows * l.width * 4), counters(experts_counters(l.width) * 4);
  Experts args;
  args.out = y.as<float>(), args.x = x.as<float>();
  args.out_stride = args.x_stride = l.width;
  args.rows = rows, args.top_k = l.top_k, args.weight = weight.as<float>();
  args.routed = {device_table.as<ExpertPointers>(), l.experts, format, l.width, l.inner, stride_of(format, l.width),
                 stride_of(format, l.inner)};
  std::byte* s = shared.as<std::byte>();
  args.shared_gate = {format, s, l.shared, l.width, stride_of(format, l.width)};
  args.shared_up = {format, s + shared_in, l.shared, l.width, stride_of(format, l.width)};
  args.shared_down = {format, s + 2 * shared_in, l.width, l.shared, stride_of(format, l.shared)};
  args.exact = exact;
  args.counters = counters.as<int32_t>();
  Memory scratch(static_cast<int64_t>(experts_scratch_bytes(args)));
  args.scratch = scratch.data;
  const double us = microseconds(
      [&](int i) {
        args.expert = expert.as<int32_t>() + i % kSets * rows * l.top_k;
        experts(nullptr, args);
      },
      rows > 16 ? 4 : 64);
  print(fmt::format("experts {} {} {} rows{}", l.name, name(format), rows, exact ? " exact" : ""), us, read,
        6.0 * static_cast<double>(rows * l.width * (l.top_k * l.inner + l.shared)));
}

void bench_route(const Layer& l) {
  Memory gate(l.experts * l.width * 4), x(l.width * 4), logits(l.experts * 4), scores(l.experts * 4), counters(4);
  Memory expert(l.top_k * 4), weight(l.top_k * 4);
  RouteFew args;
  args.route.expert = expert.as<int32_t>(), args.route.weight = weight.as<float>();
  args.route.scores = args.route.choice = scores.as<float>();
  args.route.rows = 1, args.route.experts = l.experts, args.route.top_k = l.top_k;
  args.x = x.as<float>(), args.x_stride = l.width;
  args.gate = {MatrixFormat::kF32, gate.data, l.experts, l.width, l.width};
  args.logits = logits.as<float>(), args.counters = counters.as<int32_t>();
  const double us = microseconds([&](int) { route(nullptr, args); }, 64);
  print(fmt::format("route {} 1 row", l.name), us, static_cast<double>(l.experts * l.width * 4), 0);
}

void bench_many(MatrixFormat format, int64_t rows, int64_t in, int64_t out) {
  Memory w(bytes_of(format, out, in), 0x3c), x(rows * in * 4), y(rows * out * 4);
  Memory scratch(static_cast<int64_t>(many_rows_scratch_bytes(rows, in)));
  ManyRowsLinear args;
  args.out = y.as<float>(), args.x = x.as<float>();
  args.out_stride = out, args.x_stride = in, args.rows = rows;
  args.w = {format, w.data, out, in, stride_of(format, in)};
  args.exact = false;
  args.scratch = scratch.data;
  const double us = microseconds([&](int) { linear_many_rows(nullptr, args); }, 8);
  print(fmt::format("linear_many_rows {} {} x {} -> {}", name(format), rows, in, out), us, 0,
        2.0 * static_cast<double>(rows * in * out));
}

// The two products of routed experts and those of shared ones in bf16: the kernel of warps, and that of warpgroups with
// the tiles it chooses and with others.
void bench_grouped(const Layer& l, int64_t rows) {
  constexpr MatrixFormat kFormat = MatrixFormat::kBf16;
  const int64_t in = bytes_of(kFormat, l.inner, l.width), positions = rows * l.top_k;
  Random random(1);
  // Small random values: how fast tensor cores are depends on the bits they get.
  const auto fill = [&](Memory& memory, int64_t count) {
    std::vector<Bf16Bits> values(static_cast<size_t>(std::min<int64_t>(count, 1 << 20)));
    for (Bf16Bits& v : values) v = to_bf16(0.02f * random.normal()).bits;
    for (int64_t at = 0; at < count; at += static_cast<int64_t>(values.size()))
      check(cudaMemcpy(memory.as<Bf16Bits>() + at, values.data(),
                       2 * std::min(values.size(), static_cast<size_t>(count - at)), cudaMemcpyHostToDevice));
  };
  Memory w(l.experts * 3 * in), shared(3 * bytes_of(kFormat, l.shared, l.width));
  fill(w, l.experts * 3 * in / 2), fill(shared, 3 * l.shared * l.width);
  std::vector<ExpertPointers> table;
  for (int64_t e = 0; e < l.experts; ++e) {
    const std::byte* p = w.as<std::byte>() + e * 3 * in;
    table.push_back({p, p + in, p + 2 * in});
  }
  std::vector<std::vector<int32_t>> chosen(static_cast<size_t>(l.experts));
  std::vector<int32_t> experts, order, first = {0};
  for (int64_t e = 0; e < l.experts; ++e) experts.push_back(static_cast<int32_t>(e));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < l.top_k; ++i) {
      std::swap(experts[static_cast<size_t>(i)], experts[static_cast<size_t>(i + random.below(l.experts - i))]);
      chosen[static_cast<size_t>(experts[static_cast<size_t>(i)])].push_back(static_cast<int32_t>(r * l.top_k + i));
    }
  for (const std::vector<int32_t>& mine : chosen) {
    order.insert(order.end(), mine.begin(), mine.end());
    first.push_back(static_cast<int32_t>(order.size()));
  }
  const auto upload = [&](Memory& to, const void* from, size_t bytes) {
    check(cudaMemcpy(to.data, from, bytes, cudaMemcpyHostToDevice));
  };
  Memory d_table(static_cast<int64_t>(table.size() * sizeof table[0])), d_order(positions * 4),
      d_first(l.experts * 4 + 4);
  upload(d_table, table.data(), table.size() * sizeof table[0]);
  upload(d_order, order.data(), order.size() * 4), upload(d_first, first.data(), first.size() * 4);
  const int64_t widest = std::max(l.top_k * l.inner, l.shared);
  Memory x(rows * l.width * 2), hidden(rows * widest * 2), y(positions * l.width * 4);
  fill(x, rows * l.width), fill(hidden, rows * widest);

  Grouped gated, down;
  gated.x = x.data, gated.x_stride = l.width, gated.out = hidden.data;
  down.x = hidden.data, down.out = y.data, down.out_stride = l.width;
  const auto time = [&](const std::string& what, const Grouped& g, double bytes) {
    const double flops = 2.0 * static_cast<double>(g.positions * g.w.rows * g.w.cols) * (g.v.rows > 0 ? 2 : 1);
    const std::string name = fmt::format("{} {} rows {}", l.name, rows, what);
    print(name + ": warps", microseconds([&](int) { grouped_warps(nullptr, g); }, 16), bytes, flops);
    if (!grouped_warpgroups_run()) return;
    print(name + ": warpgroups", microseconds([&](int) { grouped_warpgroups(nullptr, g); }, 16), bytes, flops);
    for (const int warpgroups : {2, 3})
      for (const int size : {128, 160, 192, 256})
        if (g.groups == 0 || size >= 192)
          print(fmt::format("{}: {} x {}", name, warpgroups, size),
                microseconds(
                    [&](int) {
                      grouped_warpgroups(nullptr, g, {warpgroups, size});
                    },
                    16),
                bytes, flops);
  };
  gated.positions = down.positions = rows;
  const std::byte* s = shared.as<std::byte>();
  const int64_t shared_in = bytes_of(kFormat, l.shared, l.width);
  gated.w = {kFormat, s, l.shared, l.width, l.width}, gated.v = {kFormat, s + shared_in, l.shared, l.width, l.width};
  down.w = {kFormat, s + 2 * shared_in, l.width, l.shared, l.shared};
  gated.out_stride = down.x_stride = l.shared;
  time("shared gated", gated, static_cast<double>(2 * shared_in));
  time("shared down", down, static_cast<double>(shared_in));
  gated.positions = down.positions = positions;
  gated.order = d_order.as<int32_t>(), gated.top_k = l.top_k;
  gated.first = down.first = d_first.as<int32_t>(), gated.groups = down.groups = l.experts;
  gated.table = down.table = d_table.as<ExpertPointers>(), down.down = true;
  gated.w = gated.v = {kFormat, nullptr, l.inner, l.width, l.width};
  down.w = {kFormat, nullptr, l.width, l.inner, l.inner};
  gated.out_stride = down.x_stride = l.inner;
  time("routed gated", gated, static_cast<double>(l.experts * 2 * in));
  time("routed down", down, static_cast<double>(l.experts * in));
}

void bench_all_grouped() {
  for (const Layer& l : {kLayers[0], kLayers[1]})
    for (const int64_t rows : {256, 512, 2048}) bench_grouped(l, rows);
}

void bench_all() {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0));
  fmt::print("{}, {} multiprocessors\n", properties.name, properties.multiProcessorCount);
  constexpr MatrixFormat kFormats[] = {MatrixFormat::kBf16, MatrixFormat::kQ8, MatrixFormat::kQ4};
  bench_copy();
  for (const MatrixFormat format : kFormats) {
    for (const auto& [in, out] :
         {std::pair<int64_t, int64_t>{1280, 3840}, {2048, 3072}, {2048, 10944}, {10944, 2048}, {2048, 102400}})
      for (const int64_t rows : {1, 8}) bench_linear(format, in, out, rows, false);
    bench_linear(format, 2048, 10944, 1, true);
    bench_linear(format, 2048, 10944, 16, false);
  }
  for (const Layer& l : kLayers) {
    bench_route(l);
    for (const MatrixFormat format : kFormats)
      for (const int64_t rows : {1, 8, 2048}) bench_experts(l, format, rows, false);
  }
  bench_experts(kLayers[0], MatrixFormat::kBf16, 2048, true);
  for (const MatrixFormat format : kFormats) bench_many(format, 2048, 2048, 4096);
  bench_all_grouped();
}

}  // namespace
}  // namespace vl2::cuda

// With the argument `grouped`: grouped products alone.
int main(int argc, char** argv) {
  try {
    if (argc > 1 && std::string(argv[1]) == "grouped")
      vl2::cuda::bench_all_grouped();
    else
      vl2::cuda::bench_all();
    return 0;
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}

// Norms, activations and the kernels that go over rows. Their rows stay in the caches, so a share of memory's speed may
// exceed 1.
#include <vector>

#include "bench.h"
#include "engine/cpu/cpu_isa.h"
#include "engine/cpu/kernels/select_kernels.h"

namespace vl2::bench {
namespace {

Weight vector(Ops& ops, int64_t size) {
  const std::vector<float> ones(static_cast<size_t>(size), 1.0f);
  return ops.pack({reinterpret_cast<const std::byte*>(ones.data()), DType::kF32, {size}}, WeightUse::kVector);
}

void layer_norm(benchmark::State& state) {
  const auto ops = one_thread(Compute::kF32);
  const Weight scale = vector(*ops, 1152), bias = vector(*ops, 1152);
  const Tensor x = random_tensor(*ops, 729, 1152, 1), out = ops->workspace().tensor(729, 1152);
  run_op(state, *ops, "_f32", [&] { ops->layer_norm(out, x, scale, bias, 1e-6f); });
}

void rms_norm(benchmark::State& state) {
  const auto ops = one_thread(Compute::kF32);
  const Weight scale = vector(*ops, 2048);
  const Tensor x = random_tensor(*ops, 64, 2048, 1), out = ops->workspace().tensor(64, 2048);
  run_op(state, *ops, "_f32", [&] { ops->rms_norm(out, x, scale, 1e-6f); });
}

void gelu(benchmark::State& state) {
  const auto ops = one_thread(Compute::kF32);
  const Tensor x = random_tensor(*ops, 64, 4304, 1);
  run_op(state, *ops, "_f32", [&] { ops->gelu(x, GeluKind::kTanh); });
}

void silu_mul(benchmark::State& state) {
  const auto ops = one_thread(Compute::kF32);
  const Tensor gate = random_tensor(*ops, 64, 2816, 1), up = random_tensor(*ops, 64, 2816, 2);
  run_op(state, *ops, "_f32", [&] { ops->silu_mul(gate, up); });
}

const cpu::KernelTable& kernels() { return cpu::select_kernels(choose_isa()); }

void values_per_second(benchmark::State& state, int64_t values) {
  state.SetItemsProcessed(state.iterations() * values);
}

void exp_row(benchmark::State& state) {
  constexpr int64_t kKeys = 729;
  std::vector<float> scores(kKeys), x(kKeys);
  Random random(1);
  for (float& value : scores) value = random.symmetric(8.0f);
  float top = 0;
  for (auto _ : state) {
    x = scores;
    benchmark::DoNotOptimize(kernels().exp_row(x.data(), kKeys, 0.125f, &top));
  }
  values_per_second(state, kKeys);
}

void pack_a(benchmark::State& state, const cpu::GemmKernel& kernel) {
  constexpr int64_t kRows = 96, kDepth = 1152;
  std::vector<float> a(kRows * kDepth);
  Random random(1);
  for (float& value : a) value = random.symmetric();
  std::vector<std::byte> packed(static_cast<size_t>(kernel.packed_a_bytes(kRows, kDepth)) + 64);
  auto* out = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(packed.data()) + 63) / 64 * 64);
  for (auto _ : state) {
    kernel.pack_a(a.data(), kDepth, nullptr, kRows, kDepth, out);
    benchmark::ClobberMemory();
  }
  values_per_second(state, kRows * kDepth);
}

}  // namespace

void register_rows() {
  benchmark::RegisterBenchmark("rows/layer_norm/729x1152", layer_norm)->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("rows/rms_norm/64x2048", rms_norm)->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("rows/gelu_tanh/64x4304", gelu)->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("rows/silu_mul/64x2816", silu_mul)->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("kernel/exp_row/729", exp_row);
  const cpu::KernelTable& table = kernels();
  const auto pack = [](const char* name, const cpu::GemmKernel& kernel) {
    benchmark::RegisterBenchmark(name, [&kernel](benchmark::State& state) {
      pack_a(state, kernel);
    })->Unit(benchmark::kMicrosecond);
  };
  pack("kernel/pack_a/f32/96x1152", table.f32);
  pack("kernel/pack_a/bf16_f32/96x1152", table.bf16_f32);
  pack("kernel/pack_a/bf16/96x1152", table.bf16);
  pack("kernel/pack_a/q8/96x1152", table.q8);
}

}  // namespace vl2::bench

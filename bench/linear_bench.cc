// Matrix products at the shapes of the releases, for every stored form and arithmetic.
#include <cstdlib>
#include <vector>

#include "bench.h"
#include "core/quant/panel_format.h"

namespace vl2::bench {
namespace {

// Weights that are read together are more than any cache holds, as a model's are.
constexpr int64_t kColdBytes = int64_t{256} << 20;

struct Form {
  const char* name;
  DType stored;
  PanelFormat panels;  // of kBF16: packed by the backend
  Compute compute;
  const char* type;  // the unit's
};
constexpr Form kForms[] = {
    {"f32", DType::kF32, PanelFormat::kBf16, Compute::kF32, "_f32"},
    {"bf16_f32", DType::kBF16, PanelFormat::kBf16, Compute::kF32, "_f32"},
    {"bf16", DType::kBF16, PanelFormat::kBf16, Compute::kBF16, "_bf16"},
    {"q8", DType::kBF16, PanelFormat::kQ8, Compute::kF32, "_int8"},
    {"q4", DType::kBF16, PanelFormat::kQ4, Compute::kF32, "_int8"},
};

struct Shape3 {
  int64_t rows, in, out;
};
constexpr Shape3 kShapes[] = {
    {729, 1152, 3456}, {729, 1152, 4304}, {729, 4304, 1152},                      // vision: qkv, fc1, fc2 of one tile
    {1, 2048, 2816},   {8, 2048, 2816},   {64, 2048, 2816},  {1024, 2048, 2816},  // Small's shared experts
};

Weight packed(Ops& ops, const Form& form, int64_t out, int64_t in) {
  Random random(1);
  if (form.panels == PanelFormat::kBf16) {
    std::vector<BF16> bf16(static_cast<size_t>(out * in));
    for (BF16& value : bf16) value = to_bf16(random.symmetric(0.02f));
    if (form.stored == DType::kBF16)
      return ops.pack({reinterpret_cast<const std::byte*>(bf16.data()), DType::kBF16, {out, in}}, WeightUse::kLinear);
    std::vector<float> wide;
    for (const BF16 value : bf16) wide.push_back(to_float(value));
    return ops.pack({reinterpret_cast<const std::byte*>(wide.data()), DType::kF32, {out, in}}, WeightUse::kLinear);
  }
  // One panel, again and again: what the codes say does not change the time.
  std::vector<float> rows(static_cast<size_t>(kPanelRows * in));
  for (float& value : rows) value = random.symmetric(0.02f);
  const int64_t bytes = panel_bytes(form.panels, in), panels = (out + kPanelRows - 1) / kPanelRows;
  const std::shared_ptr<std::byte> memory(
      static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>(bytes * panels))), std::free);
  encode_panel(form.panels, rows.data(), in, kPanelRows, in, nullptr, memory.get());
  for (int64_t p = 1; p < panels; ++p) std::copy_n(memory.get(), bytes, memory.get() + p * bytes);
  return ops.adopt({form.panels, out, in, memory.get()}, memory);
}

void linear(benchmark::State& state, const Form& form, const Shape3& shape) {
  const auto ops = one_thread(form.compute);
  std::vector<Linear> weights(1);
  weights[0].weight = packed(*ops, form, shape.out, shape.in);
  const int64_t copies = kColdBytes / weights[0].weight.storage->num_bytes();
  while (static_cast<int64_t>(weights.size()) < copies)
    weights.push_back({packed(*ops, form, shape.out, shape.in), {}});
  const Tensor x = random_tensor(*ops, shape.rows, shape.in, 2);
  const Tensor out = ops->workspace().tensor(shape.rows, shape.out);
  size_t next = 0;
  run_op(state, *ops, form.type, [&] { ops->linear(out, x, weights[next++ % weights.size()]); });
}

}  // namespace

void register_linear() {
  for (const Form& form : kForms)
    for (const Shape3& shape : kShapes)
      benchmark::RegisterBenchmark(
          fmt::format("linear/{}/{}x{}x{}", form.name, shape.rows, shape.in, shape.out).c_str(),
          [&form, &shape](benchmark::State& state) { linear(state, form, shape); })
          ->Unit(benchmark::kMicrosecond);
}

}  // namespace vl2::bench

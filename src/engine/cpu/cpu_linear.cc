// Matrix products over the pool: rows are packed once, then blocks of rows x panels are dealt out.
#include <algorithm>

#include "engine/cpu/cpu_context.h"

namespace vl2::cpu {
namespace {

// Packed rows that pass over a panel should stay in the second-level cache.
constexpr int64_t kRowBlockBytes = 768 << 10;

int64_t row_block(const GemmKernel& kernel, int64_t rows, int64_t k) {
  const int64_t bytes_per_group = kernel.packed_a_bytes(kernel.row_group, k);
  const int64_t groups = std::max<int64_t>(kRowBlockBytes / std::max<int64_t>(bytes_per_group, 1), 4);
  const int64_t limit = groups * kernel.row_group;
  if (rows <= limit) return rows;
  // Blocks of equal size rather than a short last one.
  const int64_t blocks = (rows + limit - 1) / limit;
  return round_up((rows + blocks - 1) / blocks, kernel.row_group);
}

// Blocks of rows x shares of panels, in the order of tasks: a block's shares one after the other.
struct Cut {
  int64_t rows, block, panels, share;

  int64_t shares() const { return (panels + share - 1) / share; }
  int64_t tasks() const { return (rows + block - 1) / block * shares(); }
  int64_t row(int64_t task) const { return task / shares() * block; }
  int64_t panel(int64_t task) const { return task % shares() * share; }
  int64_t num_rows(int64_t task) const { return std::min(block, rows - row(task)); }
  int64_t num_panels(int64_t task) const { return std::min(share, panels - panel(task)); }
};

Cut cut(const GemmKernel& kernel, int64_t rows, const PackedMatrix& w, int64_t threads) {
  const int64_t panels = num_panels(w.n), block = row_block(kernel, rows, w.k), blocks = (rows + block - 1) / block;
  if (rows <= kernel.row_group) return {rows, block, panels, stream_share(w, threads)};
  // Enough pieces to even out the threads, each of a few panels at least.
  const int64_t pieces = std::clamp<int64_t>(panels / 4, 1, blocks >= 4 * threads ? threads : 4 * threads);
  return {rows, block, panels, threads == 1 ? panels : round_up((panels + pieces - 1) / pieces, 4)};
}

}  // namespace

int64_t stream_share(const PackedMatrix& w, int64_t threads) {
  constexpr int64_t kPieceBytes = 128 << 10;
  const int64_t panels = num_panels(w.n);
  const int64_t pieces = threads * std::max<int64_t>(w.num_bytes() / (threads * kPieceBytes), 1);
  // As many as the kernels read at once; of few panels every thread gets some.
  const bool floats = w.format == Format::kF32 || w.format == Format::kBf16;
  const int64_t at_once = !floats ? 1 : panels <= 4 * threads ? 2 : 4;
  return round_up((panels + pieces - 1) / pieces, at_once);
}

PackedRows pack_activations(const CpuContext& context, const GemmKernel& kernel, Tensor x, const int32_t* index,
                            int64_t rows) {
  PackedRows packed{context.workspace.bytes(static_cast<size_t>(kernel.packed_a_bytes(rows, x.cols))), rows, x.cols};
  auto* out = const_cast<std::byte*>(packed.data);
  const int64_t group = kernel.row_group, groups = (rows + group - 1) / group;
  const int64_t group_bytes = kernel.packed_a_bytes(group, x.cols);
  const auto pack = [&](int64_t begin, int64_t end) {
    const int64_t first = begin * group, count = std::min(end * group, rows) - first;
    const float* source = index != nullptr ? x.data : x.row(first);
    kernel.pack_a(source, x.row_stride, index != nullptr ? index + first : nullptr, count, x.cols,
                  out + begin * group_bytes);
  };
  if (rows * x.cols < 16384) {
    pack(0, groups);  // less work than waking the pool
  } else {
    context.for_ranges(groups, 1, [&](int64_t begin, int64_t end, int) { pack(begin, end); });
  }
  return packed;
}

void multiply_rows(const CpuContext& context, Tensor x, std::span<const Product> products) {
  if (x.rows == 0) return;
  const GemmKernel& kernel = context.gemm(products[0].w->format);
  Workspace::Scope scope(context.workspace);
  const PackedRows a = pack_activations(context, kernel, x, nullptr, x.rows);
  std::vector<Cut> cuts;
  std::vector<int64_t> first = {0};  // task of each product
  for (const Product& product : products) {
    if (product.w->format != products[0].w->format) break;
    cuts.push_back(cut(kernel, x.rows, *product.w, context.pool.num_threads()));
    first.push_back(first.back() + cuts.back().tasks());
  }
  const std::vector<float*> scratch = thread_scratch(context, gemm_scratch_floats(cuts[0].block));
  context.pool.parallel_for(first.back(), [&](int64_t index, int thread) {
    const auto i = static_cast<size_t>(std::upper_bound(first.begin(), first.end(), index) - first.begin() - 1);
    const Cut& c = cuts[i];
    const auto& [out, w, bias, epilogue] = products[i];
    const int64_t task = index - first[i], row = c.row(task), panel = c.panel(task), count = c.num_panels(task);
    const void* next = panel + count < c.panels ? w->panel(panel + count) : nullptr;
    if (next == nullptr && i + 1 < cuts.size()) next = products[i + 1].w->panel(0);
    kernel.run({a.data + kernel.packed_a_bytes(row, x.cols), c.num_rows(task), w->panel(panel), count, w->k,
                out.row(row) + panel * kPanel, out.row_stride, std::min(w->n - panel * kPanel, count * kPanel),
                bias != nullptr ? bias + panel * kPanel : nullptr, epilogue, scratch[static_cast<size_t>(thread)],
                next});
  });
  if (cuts.size() < products.size()) multiply_rows(context, x, products.subspan(cuts.size()));
}

void linear(const CpuContext& context, Tensor out, Tensor x, const PackedMatrix& w, const float* bias,
            Epilogue epilogue) {
  const Product product{out, &w, bias, epilogue};
  multiply_rows(context, x, {&product, 1});
}

void swiglu(const CpuContext& context, Tensor out, Tensor x, const GatedMlp& mlp) {
  if (x.rows == 0) return;
  const PackedMatrix& gate = packed(mlp.gate.weight);
  const PackedMatrix& up = packed(mlp.up.weight);
  VL2_CHECK(gate.format == up.format, "[swiglu] gate and up are stored in different forms");
  const GemmKernel& kernel = context.gemm(gate.format);
  Workspace::Scope scope(context.workspace);
  Tensor hidden = context.workspace.tensor(x.rows, gate.n);
  {
    Workspace::Scope inner(context.workspace);
    Tensor other = context.workspace.tensor(x.rows, gate.n);
    const PackedRows a = pack_activations(context, kernel, x, nullptr, x.rows);
    const Cut cuts = cut(kernel, x.rows, gate, context.pool.num_threads());
    const std::vector<float*> scratch = thread_scratch(context, gemm_scratch_floats(cuts.block));
    context.pool.parallel_for(cuts.tasks(), [&](int64_t task, int thread) {
      const int64_t row = cuts.row(task), panel = cuts.panel(task), column = panel * kPanel;
      const int64_t rows = cuts.num_rows(task), count = cuts.num_panels(task);
      const int64_t columns = std::min(count * kPanel, gate.n - column);
      GemmTask product{a.data + kernel.packed_a_bytes(row, x.cols),
                       rows,
                       gate.panel(panel),
                       count,
                       gate.k,
                       hidden.row(row) + column,
                       hidden.row_stride,
                       columns,
                       nullptr,
                       Epilogue::kStore,
                       scratch[static_cast<size_t>(thread)]};
      const float* gate_bias = vector(mlp.gate.bias);
      const float* up_bias = vector(mlp.up.bias);
      product.bias = gate_bias != nullptr ? gate_bias + column : nullptr;
      product.next = up.panel(panel);
      kernel.run(product);
      product.b = up.panel(panel);
      product.next = gate.panel(panel + count);
      product.c = other.row(row) + column;
      product.bias = up_bias != nullptr ? up_bias + column : nullptr;
      kernel.run(product);
      for (int64_t r = row; r < row + rows; ++r)
        context.kernels.silu_mul_row(hidden.row(r) + column, other.row(r) + column, columns);
    });
  }
  linear(context, out, hidden, packed(mlp.down.weight), vector(mlp.down.bias), Epilogue::kStore);
}

}  // namespace vl2::cpu

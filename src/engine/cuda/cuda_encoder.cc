// The halves of a vision encoder's block in bfloat16: between the products of a block nothing is float32 but the sums
// that x is.
#include <cmath>

#include "engine/cuda/cuda_context.h"
#include "engine/cuda/kernels/flash_attention.h"
#include "engine/cuda/kernels/rows.h"

namespace vl2::cuda {
namespace {

constexpr int64_t kManyRows = 17;  // of fewer other kernels do the products

// out [x.rows, W.rows] in bfloat16 = W x (+ b), then GELU if asked. False: the library has no such product.
[[nodiscard]] bool multiply(const CudaContext& context, Bf16Bits* out, const Bf16Bits* x, int64_t rows, const Linear& w,
                            bool gelu) {
  const MatrixView& m = matrix(w.weight);
  Gemm g;
  g.out = out;
  g.out_type = g.type = ElementType::kBf16;
  g.x = x;
  g.w = m.data;
  g.rows = rows;
  g.cols = g.out_stride = m.rows;
  g.depth = g.x_stride = m.cols;
  g.w_stride = m.stride;
  g.bias_bf16 = narrow_vector(w.bias);
  g.gelu = gelu;
  return context.device.gemm(g);
}

// residual += W x (+ b)
void multiply_add(const CudaContext& context, Tensor residual, const Bf16Bits* x, const Linear& w) {
  const MatrixView& m = matrix(w.weight);
  Gemm g;
  g.out = residual.data;
  g.type = ElementType::kBf16;
  g.x = x;
  g.w = m.data;
  g.rows = residual.rows;
  g.cols = m.rows;
  g.depth = g.x_stride = m.cols;
  g.out_stride = residual.row_stride;
  g.w_stride = m.stride;
  g.add = true;
  g.bias = vector(w.bias);
  if (!context.device.gemm(g)) add_rows(context.stream(), rows_view(residual), {g.bias, false, 1, residual.cols});
}

bool usable(const Linear& w) {
  const MatrixView& m = matrix(w.weight);
  return m.format == MatrixFormat::kBf16 && m.rows % 8 == 0 && m.cols % 8 == 0 && m.stride == m.cols;
}

}  // namespace

bool encoder_is_fused(const CudaContext& context, const Linear& first, const Linear& second) {
  return context.bf16_compute && usable(first) && usable(second) &&
         (!first.bias || narrow_vector(first.bias) != nullptr);
}

bool norm_attention_add(const CudaContext& context, Tensor x, const LayerNorm& norm, const Linear& qkv,
                        const Linear& proj, int64_t heads, int64_t tokens) {
  const int64_t width = x.cols, size = width / heads;
  const FlashSizes sizes = flash_sizes(size, size, true);
  if (x.rows < kManyRows || !sizes.bf16 || size % 8 != 0) return false;
  Workspace::Scope scope(context.workspace);
  auto* normed = context.scratch<Bf16Bits>(x.rows * width);
  auto* joined = context.scratch<Bf16Bits>(x.rows * 3 * width);
  layer_norm(context.stream(), normed, width, rows_view(x), vector(norm.weight), vector(norm.bias), norm.eps);
  if (!multiply(context, joined, normed, x.rows, qkv, false)) return false;
  Bf16Bits* attended = normed;  // which the product has read
  const KeyLayout layout{3 * width * tokens, size, 3 * width, static_cast<int32_t>(size)};
  flash_attention({.out = {nullptr, x.rows, heads, size, width, size},
                   .q = {nullptr, x.rows, heads, size, 3 * width, size},
                   .k = joined + width,
                   .v = joined + 2 * width,
                   .bf16 = true,
                   .items = static_cast<int32_t>(x.rows / tokens),
                   .groups = static_cast<int32_t>(heads),
                   .rows = static_cast<int32_t>(tokens),
                   .keys = static_cast<int32_t>(tokens),
                   .padded_size = sizes.size,
                   .padded_v = sizes.v,
                   .causal = false,
                   .past = 0,
                   .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(size))),
                   .k_layout = layout,
                   .v_layout = layout,
                   .q_bf16 = joined,
                   .out_bf16 = attended},
                  context.stream());
  multiply_add(context, x, attended, proj);
  return true;
}

bool norm_mlp_add(const CudaContext& context, Tensor x, const LayerNorm& norm, const Linear& fc1, const Linear& fc2) {
  if (x.rows < kManyRows) return false;
  Workspace::Scope scope(context.workspace);
  auto* normed = context.scratch<Bf16Bits>(x.rows * x.cols);
  auto* hidden = context.scratch<Bf16Bits>(x.rows * fc1.weight.out);
  layer_norm(context.stream(), normed, x.cols, rows_view(x), vector(norm.weight), vector(norm.bias), norm.eps);
  if (!multiply(context, hidden, normed, x.rows, fc1, true)) return false;
  multiply_add(context, x, hidden, fc2);
  return true;
}

}  // namespace vl2::cuda

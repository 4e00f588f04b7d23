// Products with weights: few rows by kernels that stream the weights, many by the library.
#include "engine/cuda/cuda_context.h"
#include "engine/cuda/kernels/linear.h"
#include "engine/cuda/kernels/rows.h"

namespace vl2::cuda {
namespace {

constexpr int64_t kFewRows = 16;  // up to here the weights' way from memory is all that counts

int64_t padded(int64_t cols) { return (cols + 7) / 8 * 8; }

// Rows as a product reads them: as they are, or rounded to bfloat16 (once for several matrices).
class Factor {
 public:
  Factor(const CudaContext& context, Tensor x) : context_(context), x_(x) {}

  void fill(Gemm& g, ElementType type) {
    g.type = type;
    g.rows = x_.rows;
    g.depth = x_.cols;
    if (type == ElementType::kF32) {
      g.x = x_.data;
      g.x_stride = x_.row_stride;
      return;
    }
    if (rounded_ == nullptr) {
      rounded_ = context_.scratch<Bf16Bits>(x_.rows * padded(x_.cols));
      round_rows(context_.stream(), rounded_, padded(x_.cols), rows_view(x_));
    }
    g.x = rounded_;
    g.x_stride = padded(x_.cols);
  }

 private:
  const CudaContext& context_;
  Tensor x_;
  Bf16Bits* rounded_ = nullptr;
};

// The matrix as the library reads it, in the type of the product.
void fill_matrix(const CudaContext& context, Gemm& g, const MatrixView& w) {
  g.cols = w.rows;
  g.w_stride = padded(w.cols);
  const MatrixFormat wanted = g.type == ElementType::kBf16 ? MatrixFormat::kBf16 : MatrixFormat::kF32;
  if (w.format == wanted) {
    g.w = w.data;
    g.w_stride = w.stride;
  } else if (g.type == ElementType::kBf16) {
    auto* wide = context.scratch<Bf16Bits>(w.rows * g.w_stride);
    dequantise(context.stream(), wide, g.w_stride, w);
    g.w = wide;
  } else {
    auto* wide = context.scratch<float>(w.rows * g.w_stride);
    dequantise(context.stream(), wide, g.w_stride, w);
    g.w = wide;
  }
}

void multiply(const CudaContext& context, Tensor out, Factor& factor, const MatrixView& w, const float* bias,
              bool add) {
  Workspace::Scope scope(context.workspace);
  Gemm g;
  factor.fill(g, context.bf16_compute && w.format != MatrixFormat::kF32 ? ElementType::kBf16 : ElementType::kF32);
  fill_matrix(context, g, w);
  g.out = out.data;
  g.out_stride = out.row_stride;
  g.add = add;
  g.bias = bias;
  if (!context.device.gemm(g)) add_rows(context.stream(), rows_view(out), {bias, false, 1, out.cols});
}

void few(const CudaContext& context, Tensor out, Tensor x, const MatrixView& w, const float* bias, bool add) {
  linear_few_rows(context.stream(),
                  {out.data, x.data, out.row_stride, x.row_stride, x.rows, w, bias, add, !context.bf16_compute});
}

}  // namespace

void linear(const CudaContext& context, Tensor out, Tensor x, const Weight& weight, const Weight& bias, bool add) {
  if (x.rows == 0) return;
  if (x.rows <= kFewRows) return few(context, out, x, matrix(weight), vector(bias), add);
  Workspace::Scope scope(context.workspace);
  Factor factor(context, x);
  // What is rounded here outlives the scope of the product.
  Gemm unused;
  if (context.bf16_compute && matrix(weight).format != MatrixFormat::kF32) factor.fill(unused, ElementType::kBf16);
  multiply(context, out, factor, matrix(weight), vector(bias), add);
}

void linear_each(const CudaContext& context, std::span<const Tensor> outs, Tensor x,
                 std::span<const Linear* const> ws) {
  if (x.rows == 0) return;
  if (x.rows <= kFewRows) {
    std::vector<FewRowsLinear> all;
    for (size_t i = 0; i < ws.size(); ++i)
      all.push_back({outs[i].data, x.data, outs[i].row_stride, x.row_stride, x.rows, matrix(ws[i]->weight),
                     vector(ws[i]->bias), false, !context.bf16_compute});
    if (linear_few_rows(context.stream(), all)) return;
    for (const FewRowsLinear& one : all) linear_few_rows(context.stream(), one);
    return;
  }
  Workspace::Scope scope(context.workspace);
  Factor factor(context, x);
  Gemm unused;
  for (const Linear* w : ws)
    if (context.bf16_compute && matrix(w->weight).format != MatrixFormat::kF32) factor.fill(unused, ElementType::kBf16);
  for (size_t i = 0; i < ws.size(); ++i)
    multiply(context, outs[i], factor, matrix(ws[i]->weight), vector(ws[i]->bias), false);
}

void swiglu(const CudaContext& context, Tensor out, Tensor x, const GatedMlp& mlp) {
  if (x.rows == 0) return;
  Workspace::Scope scope(context.workspace);
  const MatrixView &gate_w = matrix(mlp.gate.weight), &up_w = matrix(mlp.up.weight);
  Tensor gate = context.workspace.tensor(x.rows, gate_w.rows);
  const bool alike = gate_w.format != MatrixFormat::kF32 && gate_w.format == up_w.format &&
                     gate_w.stride == up_w.stride && !mlp.gate.bias && !mlp.up.bias;
  if (x.rows <= kFewRows && alike) {
    gated_few_rows(context.stream(),
                   {gate.data, x.data, gate.row_stride, x.row_stride, x.rows, gate_w, up_w, !context.bf16_compute});
  } else {
    Tensor up = context.workspace.tensor(x.rows, up_w.rows);
    const Tensor outs[] = {gate, up};
    const Linear* const ws[] = {&mlp.gate, &mlp.up};
    linear_each(context, outs, x, ws);
    silu_mul(context.stream(), rows_view(gate), rows_view(up));
  }
  linear(context, out, gate, mlp.down.weight, mlp.down.bias, false);
}

}  // namespace vl2::cuda

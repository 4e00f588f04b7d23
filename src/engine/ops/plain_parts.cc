// Operations as the plain ones they are made of: fused ones that a backend does not know, and all that hide a matrix's
// input while somebody listens to these.
#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/ops/ops.h"

namespace vl2 {

void Ops::do_linear_gelu(Tensor out, Tensor x, const Linear& w, GeluKind kind) {
  do_linear(out, x, w);
  do_gelu(out, kind);
}

void Ops::do_linear_add(Tensor residual, Tensor x, const Linear& w) {
  Workspace::Scope scope(workspace_);
  Tensor y = workspace_.tensor(residual.rows, residual.cols);
  do_linear(y, x, w);
  do_add(residual, y);
}

void Ops::do_norm_attention_add(Tensor x, const LayerNorm& norm, const Linear& qkv, const Linear& proj, int64_t heads,
                                int64_t tokens_per_item) {
  Workspace::Scope scope(workspace_);
  Tensor normed = workspace_.tensor(x.rows, x.cols), joined = workspace_.tensor(x.rows, qkv.weight.out),
         attended = workspace_.tensor(x.rows, x.cols);
  do_layer_norm(normed, x, norm.weight, norm.bias, norm.eps);
  do_linear(joined, normed, qkv);
  do_full_attention(attended, joined, heads, tokens_per_item);
  do_linear_add(x, attended, proj);
}

void Ops::do_norm_mlp_add(Tensor x, const LayerNorm& norm, const Linear& fc1, GeluKind kind, const Linear& fc2) {
  Workspace::Scope scope(workspace_);
  Tensor normed = workspace_.tensor(x.rows, x.cols), hidden = workspace_.tensor(x.rows, fc1.weight.out);
  do_layer_norm(normed, x, norm.weight, norm.bias, norm.eps);
  do_linear_gelu(hidden, normed, fc1, kind);
  do_linear_add(x, hidden, fc2);
}

void Ops::do_swiglu(Tensor out, Tensor x, const GatedMlp& mlp) {
  Workspace::Scope scope(workspace_);
  Tensor gate = workspace_.tensor(x.rows, mlp.gate.weight.out);
  Tensor up = workspace_.tensor(x.rows, mlp.up.weight.out);
  tap(mlp.gate, x);
  tap(mlp.up, x);
  do_linear(gate, x, mlp.gate);
  do_linear(up, x, mlp.up);
  do_silu_mul(gate, up);
  tap(mlp.down, gate);
  do_linear(out, gate, mlp.down);
}

void Ops::do_linear_each(std::span<const Tensor> outs, Tensor x, std::span<const Linear* const> ws) {
  for (size_t i = 0; i < ws.size(); ++i) do_linear(outs[i], x, *ws[i]);
}

void Ops::do_all_experts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts,
                         const GatedMlp& shared) {
  Workspace::Scope scope(workspace_);
  Tensor y = workspace_.tensor(out.rows, out.cols);
  if (tap_ != nullptr) {
    experts_by_parts(out, x, routing, experts);
    Ops::do_swiglu(y, x, shared);
  } else {
    do_routed_experts(out, x, routing, experts);
    do_swiglu(y, x, shared);
  }
  do_add(out, y);
}

void Ops::do_all_experts_add(Tensor residual, Tensor x, const Routing& routing, const ExpertWeights& experts,
                             const GatedMlp& shared) {
  Workspace::Scope scope(workspace_);
  Tensor y = workspace_.tensor(residual.rows, residual.cols);
  if (tap_ != nullptr)
    Ops::do_all_experts(y, x, routing, experts, shared);
  else
    do_all_experts(y, x, routing, experts, shared);
  do_add(residual, y);
}

void Ops::do_rope_pair(Tensor x, Tensor y, Tensor cos, Tensor sin, RopeLayout layout) {
  do_rope(x, cos, sin, layout);
  do_rope(y, cos, sin, layout);
}

// An expert at a time, its tokens' rows gathered; summed on the host, which is slow where tensors are elsewhere.
void Ops::experts_by_parts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts) {
  const HostRouting chosen = to_host(routing);
  std::vector<float> sums(static_cast<size_t>(out.rows * out.cols), 0.0f);
  std::vector<int32_t> rows;
  std::vector<float> weights;
  for (int64_t e = 0; e < routing.num_experts; ++e) {
    rows.clear();
    weights.clear();
    for (int64_t i = 0; i < routing.num_tokens * routing.top_k; ++i) {
      if (chosen.values.expert[static_cast<size_t>(i)] != e) continue;
      rows.push_back(static_cast<int32_t>(i / routing.top_k));
      weights.push_back(chosen.values.weight[static_cast<size_t>(i)]);
    }
    if (rows.empty()) continue;
    Workspace::Scope scope(workspace_);
    Tensor in = workspace_.tensor(static_cast<int64_t>(rows.size()), x.cols);
    Tensor y = workspace_.tensor(in.rows, out.cols);
    do_gather_rows(in, x, rows);
    Ops::do_swiglu(y, in, experts.experts[static_cast<size_t>(e)]);
    const HostTensor values = to_host(y);
    for (int64_t r = 0; r < y.rows; ++r) {
      float* sum = sums.data() + rows[static_cast<size_t>(r)] * out.cols;
      const float* row = values.values.row(r);
      for (int64_t c = 0; c < y.cols; ++c) sum[c] += weights[static_cast<size_t>(r)] * row[c];
    }
  }
  upload(out, sums);
}

}  // namespace vl2

#include "engine/ops/ops.h"

#include <algorithm>
#include <string>

namespace vl2 {
namespace {

std::string shape_of(Tensor x) {
  return x.heads == 1 ? fmt::format("[{}, {}]", x.rows, x.cols) : fmt::format("[{}, {}, {}]", x.rows, x.heads, x.cols);
}
std::string shape_of(const Weight& w) { return fmt::format("[{}, {}]", w.out, w.in); }
std::string shape_of(const Linear& w) { return shape_of(w.weight) + (w.bias ? " + bias" : ""); }

void check_same_shape(std::string_view op, Tensor a, Tensor b) {
  VL2_CHECK(a.rows == b.rows && a.heads == b.heads && a.cols == b.cols, "[{}] shapes differ: {} and {}", op,
            shape_of(a), shape_of(b));
}

void check_vector(std::string_view op, const Weight& w, int64_t size) {
  VL2_CHECK(w && w.out == size && w.in == 1, "[{}] needs a vector of {}, has {}", op, size, shape_of(w));
}

void check_linear(std::string_view op, Tensor out, Tensor x, const Linear& w) {
  VL2_CHECK(w.weight && w.weight.in == x.cols && w.weight.out == out.cols && out.rows == x.rows && x.heads == 1 &&
                out.heads == 1,
            "[{}] {} x {} -> {}", op, shape_of(x), shape_of(w.weight), shape_of(out));
  if (w.bias) check_vector(op, w.bias, w.weight.out);
}

void check_mlp(std::string_view op, Tensor out, Tensor x, const GatedMlp& mlp) {
  VL2_CHECK(mlp.gate.weight.in == x.cols && mlp.up.weight.in == x.cols && mlp.gate.weight.out == mlp.up.weight.out &&
                mlp.down.weight.in == mlp.gate.weight.out && mlp.down.weight.out == out.cols,
            "[{}] {} through gate {}, up {}, down {} -> {}", op, shape_of(x), shape_of(mlp.gate), shape_of(mlp.up),
            shape_of(mlp.down), shape_of(out));
}

void check_rows(std::string_view op, std::span<const int32_t> rows, int64_t limit) {
  for (int32_t row : rows) VL2_CHECK(row >= 0 && row < limit, "[{}] row {} of {}", op, row, limit);
}

void check_experts(std::string_view op, Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts) {
  check_same_shape(op, out, x);
  VL2_CHECK(routing.num_tokens == x.rows && routing.num_experts == static_cast<int64_t>(experts.experts.size()));
  check_mlp(op, out, x, experts.experts.front());
}

void check_sequences(std::string_view op, std::span<const SequenceSlice> sequences, int64_t rows, KvLayer kv,
                     int64_t width, Tensor probe) {
  VL2_CHECK(kv.cache != nullptr && kv.layer >= 0 && kv.layer < kv.cache->num_layers(), "[{}] no such cache layer", op);
  VL2_CHECK(kv.cache->width() == width, "[{}] cache rows hold {} values, need {}", op, kv.cache->width(), width);
  int64_t next = 0;
  for (const SequenceSlice& s : sequences) {
    VL2_CHECK(s.begin == next && s.count > 0 && s.past >= 0, "[{}] sequences must cover the rows in order", op);
    VL2_CHECK(static_cast<int64_t>(s.blocks.size()) * kv.cache->block_tokens() >= s.past + s.count,
              "[{}] {} blocks cannot hold {} tokens", op, s.blocks.size(), s.past + s.count);
    check_rows(op, s.blocks, kv.cache->num_blocks());
    VL2_CHECK(probe.data == nullptr || probe.cols >= s.past + s.count, "[{}] probe too narrow", op);
    next += s.count;
  }
  VL2_CHECK(next == rows, "[{}] sequences cover {} of {} rows", op, next, rows);
}

std::string sequences_shape(std::span<const SequenceSlice> sequences) {
  std::string text;
  for (const SequenceSlice& s : sequences)
    text += fmt::format("{}{} {}@{}", text.empty() ? "" : ", ", s.decode ? "answer" : "prompt", s.count, s.past);
  return text;
}

std::string experts_shape(Tensor x, const Routing& routing, const ExpertWeights& experts) {
  return fmt::format("{} top {} of {} through {}", shape_of(x), routing.top_k, routing.num_experts,
                     experts.experts.front().gate.weight.out);
}

std::string router_string(const RouterParams& p) {
  std::string text = p.scoring_func == ScoringFunc::kSigmoid ? "sigmoid" : "softmax";
  if (p.topk_method == TopkMethod::kNoauxTc) text += " biased";
  if (p.topk_method != TopkMethod::kGreedy) text += fmt::format(" groups {} of {}", p.topk_groups, p.num_groups);
  text += fmt::format(" top {}", p.top_k);
  if (p.norm_topk_prob) text += " normalised";
  return text + fmt::format(" times {:.4g}", p.routed_scaling_factor);
}

}  // namespace

// Calls the observer around the run; counts and builds the shapes' text only when somebody listens.
template <typename Count, typename Run, typename Shapes>
void Ops::observed(std::string_view op, const Count& count, const Run& run, const Shapes& shapes) {
  if (observer_ == nullptr) return run();
  observer_->work(op, count());
  do_wait();
  observer_->before(op);
  run();
  do_wait();
  observer_->after(op, shapes());
}

void Ops::repeat(std::span<const int64_t> identity, std::span<const SequenceSlice> sequences,
                 const std::function<void()>& work) {
  if (observer_ != nullptr || tap_ != nullptr) return work();
  do_repeat(identity, sequences, work);
}

Weight Ops::pack(const TensorView& tensor, WeightUse use, const std::shared_ptr<const void>& owner) {
  const Shape& shape = tensor.shape;
  VL2_CHECK(!shape.empty() && tensor.size() > 0, "[pack] empty tensor");
  if (use == WeightUse::kVector) {
    Weight weight = do_pack(tensor, use, owner);
    weight.out = tensor.size();
    weight.in = 1;
    return weight;
  }
  Weight weight = do_pack(tensor, use, owner);
  weight.out = shape[0];
  weight.in = tensor.size() / shape[0];
  return weight;
}

Weight Ops::adopt(const PanelMatrix& matrix, const std::shared_ptr<const void>& owner) {
  VL2_CHECK(matrix.rows > 0 && matrix.cols > 0 && matrix.data != nullptr, "[adopt] empty matrix");
  VL2_CHECK(reinterpret_cast<uintptr_t>(matrix.data) % 64 == 0, "[adopt] panels must start at multiples of 64 bytes");
  Weight weight = do_adopt(matrix, owner);
  weight.out = matrix.rows;
  weight.in = matrix.cols;
  return weight;
}

LatentWeights Ops::adopt_latent(const LatentPanels& kv_b, const std::shared_ptr<const void>& owner) {
  const PanelMatrix &uk = kv_b.uk, &uv = kv_b.uv, &t = kv_b.uk_transposed;
  VL2_CHECK(kv_b.num_heads > 0 && uk.cols == uv.cols && t.rows == uk.cols && t.cols == uk.rows,
            "[adopt_latent] [{}, {}], [{}, {}] and [{}, {}] are not of one matrix", uk.rows, uk.cols, uv.rows, uv.cols,
            t.rows, t.cols);
  LatentWeights weights = {do_adopt_latent(kv_b, owner), kv_b.num_heads, uk.rows, uv.rows, uk.cols};
  weights.weight.out = kv_b.num_heads * (uk.rows + uv.rows);
  weights.weight.in = uk.cols;
  return weights;
}

LatentWeights Ops::pack_latent(const TensorView& kv_b, int64_t heads, int64_t qk_nope, int64_t v) {
  VL2_CHECK(kv_b.shape.size() == 2 && kv_b.shape[0] == heads * (qk_nope + v),
            "[pack_latent] {} for {} heads of {} + {}", shape_string(kv_b.shape), heads, qk_nope, v);
  LatentWeights weights = {do_pack_latent(kv_b, heads, qk_nope, v), heads, qk_nope, v, kv_b.shape[1]};
  weights.weight.out = kv_b.shape[0];
  weights.weight.in = kv_b.shape[1];
  return weights;
}

void Ops::embed(Tensor out, const Weight& table, std::span<const int32_t> ids) {
  VL2_CHECK(out.rows == static_cast<int64_t>(ids.size()) && out.cols == table.in, "[embed] {} ids from {} -> {}",
            ids.size(), shape_of(table), shape_of(out));
  for (int32_t id : ids)
    if (id < 0 || id >= table.out)
      fail(ErrorCode::kInvalidArgument, "token id {} is outside the model's vocabulary of {}", id, table.out);
  observed(
      "embed", [&] { return lookup_work(table, out.rows, out); }, [&] { do_embed(out, table, ids); },
      [&] { return shape_of(out); });
}

void Ops::gather_rows(Tensor out, Tensor x, std::span<const int32_t> rows) {
  VL2_CHECK(out.rows == static_cast<int64_t>(rows.size()) && out.cols == x.cols && x.heads == 1 && out.heads == 1);
  check_rows("gather_rows", rows, x.rows);
  observed(
      "gather_rows", [&] { return rows_work(2 * out.size()); }, [&] { do_gather_rows(out, x, rows); },
      [&] { return fmt::format("{} <- {}", shape_of(out), shape_of(x)); });
}

void Ops::scatter_rows(Tensor out, Tensor x, std::span<const int32_t> rows) {
  VL2_CHECK(x.rows == static_cast<int64_t>(rows.size()) && out.cols == x.cols && x.heads == 1 && out.heads == 1);
  check_rows("scatter_rows", rows, out.rows);
  observed(
      "scatter_rows", [&] { return rows_work(2 * x.size()); }, [&] { do_scatter_rows(out, x, rows); },
      [&] { return fmt::format("{} -> {}", shape_of(x), shape_of(out)); });
}

void Ops::fill_row(Tensor out, int64_t row, const Weight& vector) {
  VL2_CHECK(row >= 0 && row < out.rows);
  check_vector("fill_row", vector, out.cols);
  observed(
      "fill_row", [&] { return rows_work(2 * out.cols); }, [&] { do_fill_row(out, row, vector); },
      [&] { return fmt::format("{} of {}", row, shape_of(out)); });
}

void Ops::add_rows(Tensor x, const Weight& table) {
  VL2_CHECK(table.in == x.cols && x.rows % table.out == 0, "[add_rows] {} onto {}", shape_of(table), shape_of(x));
  observed(
      "add_rows", [&] { return rows_work(3 * x.size()); }, [&] { do_add_rows(x, table); }, [&] { return shape_of(x); });
}

void Ops::add(Tensor x, Tensor y) {
  check_same_shape("add", x, y);
  observed(
      "add", [&] { return rows_work(3 * x.size()); }, [&] { do_add(x, y); }, [&] { return shape_of(x); });
}

void Ops::rms_norm(Tensor out, Tensor x, const Weight& weight, float eps) {
  check_same_shape("rms_norm", out, x);
  check_vector("rms_norm", weight, x.cols);
  observed(
      "rms_norm", [&] { return rows_work(2 * x.size()); }, [&] { do_rms_norm(out, x, weight, eps); },
      [&] { return fmt::format("{} eps {}", shape_of(x), eps); });
}

void Ops::layer_norm(Tensor out, Tensor x, const Weight& weight, const Weight& bias, float eps) {
  check_same_shape("layer_norm", out, x);
  check_vector("layer_norm", weight, x.cols);
  check_vector("layer_norm", bias, x.cols);
  observed(
      "layer_norm", [&] { return rows_work(2 * x.size()); }, [&] { do_layer_norm(out, x, weight, bias, eps); },
      [&] { return fmt::format("{} eps {}", shape_of(x), eps); });
}

void Ops::linear(Tensor out, Tensor x, const Linear& w) {
  check_linear("linear", out, x, w);
  tap(w, x);
  observed(
      "linear", [&] { return linear_work(out, x, w.weight); }, [&] { do_linear(out, x, w); },
      [&] { return fmt::format("{} x {}", shape_of(x), shape_of(w)); });
}

void Ops::gelu(Tensor x, GeluKind kind) {
  observed(
      kind == GeluKind::kTanh ? "gelu_tanh" : "gelu_erf", [&] { return rows_work(2 * x.size()); },
      [&] { do_gelu(x, kind); }, [&] { return shape_of(x); });
}

void Ops::silu_mul(Tensor gate, Tensor up) {
  check_same_shape("silu_mul", gate, up);
  observed(
      "silu_mul", [&] { return rows_work(3 * gate.size()); }, [&] { do_silu_mul(gate, up); },
      [&] { return shape_of(gate); });
}

void Ops::linear_gelu(Tensor out, Tensor x, const Linear& w, GeluKind kind) {
  check_linear("linear_gelu", out, x, w);
  tap(w, x);
  observed(
      kind == GeluKind::kTanh ? "linear_gelu_tanh" : "linear_gelu_erf", [&] { return linear_work(out, x, w.weight); },
      [&] { do_linear_gelu(out, x, w, kind); }, [&] { return fmt::format("{} x {}", shape_of(x), shape_of(w)); });
}

void Ops::linear_add(Tensor residual, Tensor x, const Linear& w) {
  check_linear("linear_add", residual, x, w);
  tap(w, x);
  observed(
      "linear_add", [&] { return linear_work(residual, x, w.weight); }, [&] { do_linear_add(residual, x, w); },
      [&] { return fmt::format("{} x {}", shape_of(x), shape_of(w)); });
}

void Ops::swiglu(Tensor out, Tensor x, const GatedMlp& mlp) {
  check_mlp("swiglu", out, x, mlp);
  VL2_CHECK(out.rows == x.rows);
  observed(
      "swiglu", [&] { return swiglu_work(out, x, mlp); },
      [&] { tap_ != nullptr ? Ops::do_swiglu(out, x, mlp) : do_swiglu(out, x, mlp); },
      [&] { return fmt::format("{} through {}", shape_of(x), mlp.gate.weight.out); });
}

void Ops::linear_each(std::span<const Tensor> outs, Tensor x, std::span<const Linear* const> ws) {
  VL2_CHECK(outs.size() == ws.size() && !ws.empty());
  for (size_t i = 0; i < ws.size(); ++i) check_linear("linear_each", outs[i], x, *ws[i]);
  for (const Linear* w : ws) tap(*w, x);
  observed(
      "linear_each", [&] { return linear_each_work(outs, x, ws); }, [&] { do_linear_each(outs, x, ws); },
      [&] {
        std::string result = shape_of(x);
        for (const Linear* w : ws) result += " x " + shape_of(*w);
        return result;
      });
}

void Ops::rope(Tensor x, Tensor cos, Tensor sin, RopeLayout layout) {
  VL2_CHECK(
      x.cols % 2 == 0 && cos.cols * 2 == x.cols && sin.cols == cos.cols && cos.rows == x.rows && sin.rows == x.rows,
      "[rope] {} with angles {}", shape_of(x), shape_of(cos));
  observed(
      layout == RopeLayout::kHalfSplit ? "rope_half_split" : "rope_interleaved",
      [&] { return rows_work(2 * x.size() + cos.size() + sin.size()); }, [&] { do_rope(x, cos, sin, layout); },
      [&] { return shape_of(x); });
}

void Ops::rope_pair(Tensor x, Tensor y, Tensor cos, Tensor sin, RopeLayout layout) {
  VL2_CHECK(x.cols % 2 == 0 && cos.cols * 2 == x.cols && sin.cols == cos.cols && cos.rows == x.rows &&
                sin.rows == x.rows && y.rows == x.rows && y.cols == x.cols,
            "[rope_pair] {} and {} with angles {}", shape_of(x), shape_of(y), shape_of(cos));
  observed(
      layout == RopeLayout::kHalfSplit ? "rope_pair_half_split" : "rope_pair_interleaved",
      [&] { return rows_work(2 * (x.size() + y.size()) + cos.size() + sin.size()); },
      [&] { do_rope_pair(x, y, cos, sin, layout); }, [&] { return fmt::format("{} {}", shape_of(x), shape_of(y)); });
}

void Ops::full_attention(Tensor out, Tensor qkv, int64_t heads, int64_t tokens_per_item) {
  VL2_CHECK(heads > 0 && qkv.cols == 3 * out.cols && out.cols % heads == 0 && qkv.rows == out.rows &&
                tokens_per_item > 0 && out.rows % tokens_per_item == 0,
            "[full_attention] {} with {} heads -> {}", shape_of(qkv), heads, shape_of(out));
  observed(
      "full_attention", [&] { return full_attention_work(out, qkv, tokens_per_item); },
      [&] { do_full_attention(out, qkv, heads, tokens_per_item); },
      [&] { return fmt::format("{} heads {} items of {}", shape_of(qkv), heads, tokens_per_item); });
}

void Ops::norm_attention_add(Tensor x, const LayerNorm& norm, const Linear& qkv, const Linear& proj, int64_t heads,
                             int64_t tokens_per_item) {
  if (tap_ != nullptr || !fuses(qkv, proj)) {
    Workspace::Scope scope(workspace_);
    Tensor normed = workspace_.tensor(x.rows, x.cols), joined = workspace_.tensor(x.rows, qkv.weight.out),
           attended = workspace_.tensor(x.rows, x.cols);
    layer_norm(normed, x, norm.weight, norm.bias, norm.eps);
    linear(joined, normed, qkv);
    full_attention(attended, joined, heads, tokens_per_item);
    return linear_add(x, attended, proj);
  }
  VL2_CHECK(qkv.weight.in == x.cols && qkv.weight.out == 3 * x.cols && proj.weight.in == x.cols &&
                proj.weight.out == x.cols && x.cols % heads == 0 && x.rows % tokens_per_item == 0 && x.heads == 1,
            "[norm_attention_add] {} through {} and {} with {} heads", shape_of(x), shape_of(qkv), shape_of(proj),
            heads);
  observed(
      "norm_attention_add",
      [&] {
        const Tensor joined{nullptr, x.rows, 1, 3 * x.cols, 3 * x.cols, 3 * x.cols};
        OpWork work = linear_work(joined, x, qkv.weight);
        work += full_attention_work(x, joined, tokens_per_item);
        work += linear_work(x, x, proj.weight);
        work.activation_bytes = rows_work(2 * x.size()).activation_bytes;
        return work;
      },
      [&] { do_norm_attention_add(x, norm, qkv, proj, heads, tokens_per_item); },
      [&] { return fmt::format("{} with {} heads", shape_of(x), heads); });
}

void Ops::norm_mlp_add(Tensor x, const LayerNorm& norm, const Linear& fc1, GeluKind kind, const Linear& fc2) {
  if (tap_ != nullptr || !fuses(fc1, fc2)) {
    Workspace::Scope scope(workspace_);
    Tensor normed = workspace_.tensor(x.rows, x.cols), hidden = workspace_.tensor(x.rows, fc1.weight.out);
    layer_norm(normed, x, norm.weight, norm.bias, norm.eps);
    linear_gelu(hidden, normed, fc1, kind);
    return linear_add(x, hidden, fc2);
  }
  VL2_CHECK(fc1.weight.in == x.cols && fc2.weight.in == fc1.weight.out && fc2.weight.out == x.cols && x.heads == 1,
            "[norm_mlp_add] {} through {} and {}", shape_of(x), shape_of(fc1), shape_of(fc2));
  observed(
      "norm_mlp_add",
      [&] {
        OpWork work = linear_work(x, x, fc1.weight);
        work += linear_work(x, x, fc2.weight);
        work.flops = 2.0 * static_cast<double>(x.rows) *
                     static_cast<double>(fc1.weight.in * fc1.weight.out + fc2.weight.in * fc2.weight.out);
        work.activation_bytes = rows_work(2 * x.size()).activation_bytes;
        return work;
      },
      [&] { do_norm_mlp_add(x, norm, fc1, kind, fc2); },
      [&] { return fmt::format("{} through {}", shape_of(x), fc1.weight.out); });
}

void Ops::cached_attention(Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv,
                           std::span<const SequenceSlice> sequences, float scale, Tensor probe) {
  VL2_CHECK(k.heads > 0 && q.heads % k.heads == 0 && k.cols == q.cols && k.rows == q.rows,
            "[cached_attention] q {} k {}", shape_of(q), shape_of(k));
  check_same_shape("cached_attention", k, v);
  VL2_CHECK(out.rows == q.rows && out.cols == q.heads * q.cols);
  check_sequences("cached_attention", sequences, q.rows, kv, 2 * k.heads * k.cols, probe);
  observed(
      "cached_attention", [&] { return cached_attention_work(out, q, k, kv, sequences); },
      [&] { do_cached_attention(out, q, k, v, kv, sequences, scale, probe); },
      [&] {
        return fmt::format("q {} kv {} scale {:.4g} {}", shape_of(q), shape_of(k), scale, sequences_shape(sequences));
      });
}

void Ops::latent_attention(Tensor out, Tensor q, Tensor c_kv, Tensor k_pe, const LatentWeights& w, KvLayer kv,
                           std::span<const SequenceSlice> sequences, float scale, Tensor probe) {
  VL2_CHECK(q.heads == w.num_heads && q.cols == w.qk_nope + k_pe.cols && c_kv.cols == w.rank && c_kv.rows == q.rows &&
                k_pe.rows == q.rows && out.rows == q.rows && out.cols == w.num_heads * w.v,
            "[latent_attention] q {} c_kv {} k_pe {} -> {}", shape_of(q), shape_of(c_kv), shape_of(k_pe),
            shape_of(out));
  check_sequences("latent_attention", sequences, q.rows, kv, w.rank + k_pe.cols, probe);
  observed(
      "latent_attention", [&] { return latent_attention_work(out, q, w, kv, sequences); },
      [&] { do_latent_attention(out, q, c_kv, k_pe, w, kv, sequences, scale, probe); },
      [&] {
        return fmt::format("q {} rank {} scale {:.4g} {}", shape_of(q), w.rank, scale, sequences_shape(sequences));
      });
}

Routing Ops::route(Tensor x, const Weight& gate, const Weight& bias, const RouterParams& p) {
  const int64_t experts = gate.out;
  VL2_CHECK(gate && gate.in == x.cols && p.top_k > 0 && p.top_k <= experts && p.num_groups > 0 &&
                experts % p.num_groups == 0 && p.topk_groups > 0 && p.topk_groups <= p.num_groups,
            "[route] {} x {} top {} groups {}", shape_of(x), shape_of(gate), p.top_k, p.num_groups);
  if (bias) check_vector("route", bias, experts);
  Routing routing;
  routing.num_tokens = x.rows;
  routing.num_experts = experts;
  routing.top_k = p.top_k;
  routing.expert = workspace_.array<int32_t>(x.rows * p.top_k);
  routing.weight = workspace_.array<float>(x.rows * p.top_k);
  routing.scores = workspace_.array<float>(x.rows * experts);
  routing.choice = bias ? workspace_.array<float>(x.rows * experts) : routing.scores;
  observed(
      "route", [&] { return linear_work(Tensor{.rows = x.rows, .cols = experts}, x, gate); },
      [&] { do_route(routing, x, gate, bias, p); },
      [&] { return fmt::format("{} x {} {}", shape_of(x), shape_of(gate), router_string(p)); });
  return routing;
}

void Ops::routed_experts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts) {
  check_experts("routed_experts", out, x, routing, experts);
  if (on_host()) check_rows("routed_experts", routing.expert, routing.num_experts);
  observed(
      "routed_experts", [&] { return routed_experts_work(out, x, to_host(routing).values, experts); },
      [&] {
        tap_ != nullptr ? experts_by_parts(out, x, routing, experts) : do_routed_experts(out, x, routing, experts);
      },
      [&] { return experts_shape(x, routing, experts); });
}

void Ops::all_experts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts,
                      const GatedMlp& shared) {
  check_experts("all_experts", out, x, routing, experts);
  if (on_host()) check_rows("all_experts", routing.expert, routing.num_experts);
  check_mlp("all_experts", out, x, shared);
  observed(
      "all_experts", [&] { return all_experts_work(out, x, to_host(routing).values, experts, shared); },
      [&] {
        tap_ != nullptr ? Ops::do_all_experts(out, x, routing, experts, shared)
                        : do_all_experts(out, x, routing, experts, shared);
      },
      [&] { return fmt::format("{}, all through {}", experts_shape(x, routing, experts), shared.gate.weight.out); });
}

void Ops::all_experts_add(Tensor residual, Tensor x, const Routing& routing, const ExpertWeights& experts,
                          const GatedMlp& shared) {
  check_experts("all_experts_add", residual, x, routing, experts);
  if (on_host()) check_rows("all_experts_add", routing.expert, routing.num_experts);
  check_mlp("all_experts_add", residual, x, shared);
  observed(
      "all_experts_add", [&] { return all_experts_work(residual, x, to_host(routing).values, experts, shared); },
      [&] {
        tap_ != nullptr ? Ops::do_all_experts_add(residual, x, routing, experts, shared)
                        : do_all_experts_add(residual, x, routing, experts, shared);
      },
      [&] { return fmt::format("{}, all through {}", experts_shape(x, routing, experts), shared.gate.weight.out); });
}

void Ops::pixel_shuffle(Tensor out, Tensor x, int64_t grid, int64_t ratio) {
  const int64_t side = (grid + ratio - 1) / ratio;
  VL2_CHECK(x.rows % (grid * grid) == 0 && out.rows == x.rows / (grid * grid) * side * side &&
                out.cols == x.cols * ratio * ratio,
            "[pixel_shuffle] {} grid {} ratio {} -> {}", shape_of(x), grid, ratio, shape_of(out));
  observed(
      "pixel_shuffle", [&] { return rows_work(x.size() + out.size()); }, [&] { do_pixel_shuffle(out, x, grid, ratio); },
      [&] { return fmt::format("{} -> {}", shape_of(x), shape_of(out)); });
}

void Ops::extract_patches(Tensor out, std::span<const float> pixels, int64_t image_size, int64_t patch) {
  const int64_t grid = image_size / patch;
  VL2_CHECK(out.cols == 3 * patch * patch && out.rows % (grid * grid) == 0 &&
                static_cast<int64_t>(pixels.size()) == out.rows / (grid * grid) * 3 * image_size * image_size,
            "[extract_patches] {} pixels of {} -> {}", pixels.size(), image_size, shape_of(out));
  observed(
      "extract_patches", [&] { return rows_work(2 * out.size()); },
      [&] { do_extract_patches(out, pixels, image_size, patch); }, [&] { return shape_of(out); });
}

void Ops::choose_ids(std::span<ChosenId> out, Tensor logits, std::span<const ChoiceRule> rules, int64_t num_ids) {
  VL2_CHECK(static_cast<int64_t>(out.size()) == logits.rows && num_ids > 0 && num_ids <= logits.cols);
  VL2_CHECK(rules.empty() || rules.size() == out.size(), "[choose_ids] {} rules for {} rows", rules.size(), out.size());
  for (const ChoiceRule& rule : rules) {
    VL2_CHECK(rule.temperature >= 0 && rule.top_k >= 0 && rule.uniform >= 0 && rule.uniform < 1);
    VL2_CHECK(rule.most_likely >= 0 && rule.most_likely <= std::min(kMostLikelyAtMost, logits.cols));
    for (const LogitEdit& edit : rule.edits) VL2_CHECK(edit.id >= 0 && edit.id < num_ids, "edit of id {}", edit.id);
  }
  observed(
      "choose_ids", [&] { return rows_work(logits.size()); }, [&] { do_choose_ids(out, logits, rules, num_ids); },
      [&] { return shape_of(logits); });
}

}  // namespace vl2

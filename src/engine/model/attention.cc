// T: tokens, D: hidden size, H: heads, G: key-value heads, K: query-key head size, N: its part without position (nope),
// R: its rotated part, L: latent rank, V: value head size.
#include "engine/model/attention.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace vl2 {
namespace {

// Golden quirk 14: these two norms ignore rms_norm_eps.
constexpr float kLatentNormEps = 1e-6f;

// Room for the softmax of every row when somebody traces it, nothing otherwise.
Tensor probe_tensor(const ModelContext& context, int64_t heads, const ForwardBatch& batch, int64_t rows) {
  if (!context.shows_layer_details()) return {};
  int64_t longest = 0;
  for (const SequenceSlice& s : batch.sequences) longest = std::max(longest, s.past + s.count);
  return context.ops.workspace().tensor(rows, heads * longest).split_heads(heads);
}

void output_projection(const ModelContext& context, const Linear& o, Tensor attended, Tensor residual_TD, Tensor probe,
                       int64_t layer) {
  if (context.shows_layer_details()) {
    Tensor out_TD = context.ops.workspace().tensor(residual_TD.rows, residual_TD.cols);
    context.ops.linear(out_TD, attended, o);
    context.stage(fmt::format("layer.{}.attn_weights", layer), probe);
    context.stage(fmt::format("layer.{}.attn_out", layer), out_TD);
  }
  context.ops.linear_add(residual_TD, attended, o);
}

void multi_head_attention(const ModelContext& context, const MhaWeights& w, Tensor normed_TD, Tensor residual_TD,
                          const ForwardBatch& batch, const RotaryEmbedding& rotary, KvLayer kv) {
  Ops& ops = context.ops;
  const LanguageConfig& c = context.config.language;
  const int64_t rows = normed_TD.rows;
  Tensor q = ops.workspace().tensor(rows, w.q.weight.out);
  Tensor k = ops.workspace().tensor(rows, w.k.weight.out);
  Tensor v = ops.workspace().tensor(rows, w.v.weight.out);
  ops.linear_each(std::array{q, k, v}, normed_TD, std::array{&w.q, &w.k, &w.v});

  Tensor q_THK = q.split_heads(c.num_attention_heads);
  Tensor k_TGK = k.split_heads(c.num_key_value_heads);
  Tensor v_TGK = v.split_heads(c.num_key_value_heads);
  ops.rope_pair(q_THK, k_TGK, rotary.cos_TR, rotary.sin_TR, RopeLayout::kHalfSplit);

  Tensor attended = ops.workspace().tensor(rows, w.q.weight.out);
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.qk_head_dim())));
  Tensor probe = probe_tensor(context, c.num_attention_heads, batch, rows);
  ops.cached_attention(attended, q_THK, k_TGK, v_TGK, kv, batch.sequences, scale, probe);
  output_projection(context, w.o, attended, residual_TD, probe, kv.layer);
}

// The query, and beside it the latent of keys and values, which reads the same rows.
Tensor query(const ModelContext& context, const MlaWeights& w, Tensor normed_TD, Tensor kv_a) {
  Ops& ops = context.ops;
  if (const auto* plain = std::get_if<PlainQuery>(&w.query)) {
    Tensor q = ops.workspace().tensor(normed_TD.rows, plain->q.weight.out);
    ops.linear_each(std::array{q, kv_a}, normed_TD, std::array{&plain->q, &w.kv_a});
    return q;
  }
  const LoraQuery& lora = std::get<LoraQuery>(w.query);
  Tensor q_a = ops.workspace().tensor(normed_TD.rows, lora.q_a.weight.out);
  ops.linear_each(std::array{q_a, kv_a}, normed_TD, std::array{&lora.q_a, &w.kv_a});
  ops.rms_norm(q_a, q_a, lora.q_a_norm, kLatentNormEps);
  Tensor q = ops.workspace().tensor(normed_TD.rows, lora.q_b.weight.out);
  ops.linear(q, q_a, lora.q_b);
  return q;
}

void multi_head_latent_attention(const ModelContext& context, const MlaWeights& w, Tensor normed_TD, Tensor residual_TD,
                                 const ForwardBatch& batch, const RotaryEmbedding& rotary, KvLayer kv) {
  Ops& ops = context.ops;
  const LanguageConfig& c = context.config.language;
  const int64_t rows = normed_TD.rows;
  Tensor kv_a = ops.workspace().tensor(rows, w.kv_a.weight.out);
  Tensor q_THK = query(context, w, normed_TD, kv_a).split_heads(c.num_attention_heads);
  Tensor c_kv_TL = kv_a.columns(0, c.kv_lora_rank);
  Tensor k_pe_TR = kv_a.columns(c.kv_lora_rank, c.qk_rope_head_dim);
  ops.rms_norm(c_kv_TL, c_kv_TL, w.kv_a_norm, kLatentNormEps);

  Tensor q_pe_THR = q_THK.columns(c.qk_nope_head_dim, c.qk_rope_head_dim);
  ops.rope_pair(q_pe_THR, k_pe_TR, rotary.cos_TR, rotary.sin_TR, RopeLayout::kInterleaved);

  Tensor attended = ops.workspace().tensor(rows, w.o.weight.in);
  const float scale =
      static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.qk_head_dim()))) * rotary.softmax_scale_factor;
  Tensor probe = probe_tensor(context, c.num_attention_heads, batch, rows);
  ops.latent_attention(attended, q_THK, c_kv_TL, k_pe_TR, w.kv_b, kv, batch.sequences, scale, probe);
  output_projection(context, w.o, attended, residual_TD, probe, kv.layer);
}

}  // namespace

void attention(const ModelContext& context, const std::variant<MhaWeights, MlaWeights>& weights, Tensor normed_TD,
               Tensor residual_TD, const ForwardBatch& batch, const RotaryEmbedding& rotary, KvLayer kv) {
  Workspace::Scope scope(context.ops.workspace());
  if (const auto* mha = std::get_if<MhaWeights>(&weights)) {
    multi_head_attention(context, *mha, normed_TD, residual_TD, batch, rotary, kv);
  } else {
    multi_head_latent_attention(context, std::get<MlaWeights>(weights), normed_TD, residual_TD, batch, rotary, kv);
  }
}

int64_t cache_width(const LanguageConfig& c) {
  return c.use_mla ? c.kv_lora_rank + c.qk_rope_head_dim : 2 * c.num_key_value_heads * c.qk_head_dim();
}

int64_t rotary_dim(const LanguageConfig& c) { return c.use_mla ? c.qk_rope_head_dim : c.qk_head_dim(); }

}  // namespace vl2

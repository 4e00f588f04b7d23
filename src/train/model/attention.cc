// T: flat rows, B: samples of a group, L: queries of a sample, M: its keys, D: hidden size, H: heads, G: heads of keys
// and values, K: width of q and k of a head, V: width of v, R: rotated channels, N: not rotated ones.
#include "train/model/attention.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "train/model/fused_attention.h"
#include "train/model/fused_ops.h"
#include "train/model/rope.h"
#include "train/model/rounded_attention.h"

namespace vl2::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The latent norms ignore rms_norm_eps (golden quirk 14).
constexpr double kLatentNormEps = 1e-6;

// Softmax of bf16 scores in float32, of which only the rounded result is kept for the backward pass.
class RoundedSoftmax : public torch::autograd::Function<RoundedSoftmax> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& scores) {
    at::Tensor result = scores.to(at::kFloat).softmax(-1).to(scores.scalar_type());
    context->save_for_backward({result});
    return result;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const at::Tensor softmax = context->get_saved_variables()[0];
    return {at::_softmax_backward_data(grads[0].to(at::kFloat), softmax.to(at::kFloat), -1, at::kFloat)
                .to(softmax.scalar_type())};
  }
};

at::Tensor softmax(const at::Tensor& scores) {
  if (scores.scalar_type() == at::kFloat) return scores.softmax(-1);
  return fusable(scores) ? fused_softmax(scores) : RoundedSoftmax::apply(scores);
}

// [B, L, H, K] -> [B * H, L, K]
at::Tensor heads_first(const at::Tensor& x_BLHK) { return x_BLHK.transpose(1, 2).flatten(0, 1); }

at::Tensor repeat_heads(const at::Tensor& x_BMGK, int64_t heads) {
  const int64_t groups = x_BMGK.size(2), repeats = heads / groups;
  if (repeats == 1) return x_BMGK;
  const at::Tensor expanded =
      x_BMGK.unsqueeze(3).expand({x_BMGK.size(0), x_BMGK.size(1), groups, repeats, x_BMGK.size(3)});
  return expanded.reshape({x_BMGK.size(0), x_BMGK.size(1), heads, x_BMGK.size(3)});
}

// Queries this many at a time attend only to keys up to the last of them: half the work of a long sample.
constexpr int64_t kQueryBlock = 512;

at::Tensor causal_attend(const at::Tensor& q_BLHK, const at::Tensor& k_BLHK, const at::Tensor& v_BLHV, double scale,
                         const at::Tensor& mask_BLL, at::Tensor* probabilities) {
  const int64_t length = q_BLHK.size(1);
  if (length < 2 * kQueryBlock || probabilities != nullptr || q_BLHK.is_cuda())
    return attend(q_BLHK, k_BLHK, v_BLHV, scale, mask_BLL, probabilities);
  std::vector<at::Tensor> blocks;
  for (int64_t first = 0; first < length; first += kQueryBlock) {
    const int64_t count = std::min(kQueryBlock, length - first), end = first + count;
    blocks.push_back(attend(q_BLHK.narrow(1, first, count), k_BLHK.narrow(1, 0, end), v_BLHV.narrow(1, 0, end), scale,
                            mask_BLL.narrow(1, first, count).narrow(2, 0, end)));
  }
  return at::cat(blocks, 1);
}

// q_THK, k_TGK, v_TGV -> [T, H * V], each sample for itself.
at::Tensor attend_in_samples(const ModelContext& context, int64_t layer, const at::Tensor& q_THK,
                             const at::Tensor& k_TGK, const at::Tensor& v_TGV, double scale) {
  if (!context.state->sample_starts.empty())
    return fused_causal_attention(q_THK, k_TGK, v_TGV, context.state->sample_starts, scale);
  const SequenceLayout& layout = context.state->layout;
  const int64_t heads = q_THK.size(1);
  const at::Tensor q = layout.gather(q_THK), k = layout.gather(k_TGK), v = layout.gather(v_TGV);
  const auto qs = q.split_with_sizes(layout.group_rows), ks = k.split_with_sizes(layout.group_rows),
             vs = v.split_with_sizes(layout.group_rows);
  std::vector<at::Tensor> attended;
  for (size_t g = 0; g < layout.groups.size(); ++g) {
    const SequenceLayout::Group& group = layout.groups[g];
    const auto by_sample = [&](const at::Tensor& x) {
      return x.reshape({group.samples, group.length, x.size(1), x.size(2)});
    };
    at::Tensor probabilities;
    const at::Tensor out_BLHV =
        causal_attend(by_sample(qs[g]), repeat_heads(by_sample(ks[g]), heads), repeat_heads(by_sample(vs[g]), heads),
                      scale, group.mask_BLL, context.traced() ? &probabilities : nullptr);
    if (context.traced() && group.samples == 1)
      context.stage(fmt::format("layer.{}.attn_weights", layer),
                    probabilities.narrow(2, 0, group.longest).narrow(3, 0, group.longest));
    attended.push_back(out_BLHV.reshape({group.samples * group.length, -1}));
  }
  return layout.scatter(at::cat(attended));
}

// One sequence whose earlier keys and values are in the cache.
at::Tensor attend_cached(const ModelContext& context, int64_t layer, const at::Tensor& q_THK, const at::Tensor& k_TGK,
                         const at::Tensor& v_TGV, double scale) {
  KvCache& cache = *context.cache;
  const int64_t count = context.state->tokens, heads = q_THK.size(1);
  const at::Tensor& k_1LHK = cache.k_1LHK[static_cast<size_t>(layer)];
  const at::Tensor& v_1LHV = cache.v_1LHV[static_cast<size_t>(layer)];
  k_1LHK[0].narrow(0, cache.length, count).copy_(context.factor(k_TGK.narrow(0, 0, count)));
  v_1LHV[0].narrow(0, cache.length, count).copy_(context.factor(v_TGV.narrow(0, 0, count)));
  // Over all of the cache, so that the products keep their shape from token to token.
  const at::Tensor q_1LHK = q_THK.unsqueeze(0), k = repeat_heads(k_1LHK, heads), v = repeat_heads(v_1LHV, heads);
  const at::Tensor& mask = context.state->layout.groups[0].mask_BLL;
  const bool rounded = context.state->rounds_factors && cache.length == 0;
  return (rounded ? rounded_attend(q_1LHK, k, v, scale, mask) : attend(q_1LHK, k, v, scale, mask))[0].flatten(1);
}

at::Tensor attend_any(const ModelContext& context, int64_t layer, const at::Tensor& q_THK, const at::Tensor& k_TGK,
                      const at::Tensor& v_TGV, double scale) {
  return context.cache != nullptr ? attend_cached(context, layer, q_THK, k_TGK, v_TGV, scale)
                                  : attend_in_samples(context, layer, q_THK, k_TGK, v_TGV, scale);
}

at::Tensor multi_head_attention(const ModelContext& context, int64_t layer, const std::string& name,
                                const at::Tensor& normed_TD) {
  const LanguageConfig& c = context.language();
  const RotaryEmbedding& rotary = context.state->rotary;
  const int64_t rows = normed_TD.size(0), width = c.qk_head_dim();
  at::Tensor q_THK = linear(context, name + ".q_proj", normed_TD).view({rows, c.num_attention_heads, width});
  at::Tensor k_TGK = linear(context, name + ".k_proj", normed_TD).view({rows, c.num_key_value_heads, width});
  const at::Tensor v_TGV = linear(context, name + ".v_proj", normed_TD).view({rows, c.num_key_value_heads, width});
  q_THK = rope(q_THK, rotary, RopeLayout::kHalfSplit);
  k_TGK = rope(k_TGK, rotary, RopeLayout::kHalfSplit);
  if (context.traced()) {
    context.stage(fmt::format("layer.{}.cache0", layer), k_TGK.transpose(0, 1).unsqueeze(0));
    context.stage(fmt::format("layer.{}.cache1", layer), v_TGV.transpose(0, 1).unsqueeze(0));
  }
  return attend_any(context, layer, q_THK, k_TGK, v_TGV, 1.0 / std::sqrt(static_cast<double>(width)));
}

at::Tensor query(const ModelContext& context, const std::string& name, const at::Tensor& normed_TD) {
  if (!context.language().q_lora_rank) return linear(context, name + ".q_proj", normed_TD);
  at::Tensor q_a = linear(context, name + ".q_a_proj", normed_TD);
  q_a = rms_norm(q_a, context.weight(name + ".q_a_layernorm.weight"), kLatentNormEps);
  return linear(context, name + ".q_b_proj", q_a);
}

at::Tensor multi_head_latent_attention(const ModelContext& context, int64_t layer, const std::string& name,
                                       const at::Tensor& normed_TD) {
  const LanguageConfig& c = context.language();
  const RotaryEmbedding& rotary = context.state->rotary;
  const int64_t rows = normed_TD.size(0), heads = c.num_attention_heads;
  const at::Tensor q_THK = query(context, name, normed_TD).view({rows, heads, c.qk_head_dim()});
  const at::Tensor kv_a = linear(context, name + ".kv_a_proj_with_mqa", normed_TD);
  const auto latents = kv_a.split_with_sizes({c.kv_lora_rank, c.qk_rope_head_dim}, 1);
  const at::Tensor c_kv =
      rms_norm(latents[0].contiguous(), context.weight(name + ".kv_a_layernorm.weight"), kLatentNormEps);
  at::Tensor k_pe_T1R = latents[1].unsqueeze(1);
  k_pe_T1R = rope(k_pe_T1R, rotary, RopeLayout::kInterleaved);
  if (context.traced()) {
    context.stage(fmt::format("layer.{}.cache0", layer), k_pe_T1R.transpose(0, 1).unsqueeze(0));
    context.stage(fmt::format("layer.{}.cache1", layer), c_kv.unsqueeze(0));
  }
  const auto q = q_THK.split_with_sizes({c.qk_nope_head_dim, c.qk_rope_head_dim}, 2);
  const at::Tensor q_pe_THR = rope(q[1], rotary, RopeLayout::kInterleaved);
  const double scale = rotary.softmax_scale_factor / std::sqrt(static_cast<double>(c.qk_head_dim()));
  ModelContext::Lora adapter;
  if (context.state->rounds_factors && !context.find_adapter(name + ".kv_b_proj.weight", adapter)) {
    KvCache& cache = *context.cache;
    const at::Tensor &c_MC = cache.c_MC[static_cast<size_t>(layer)], &pe_MR = cache.pe_MR[static_cast<size_t>(layer)];
    c_MC.narrow(0, cache.length, rows).copy_(context.factor(c_kv));
    pe_MR.narrow(0, cache.length, rows).copy_(context.factor(k_pe_T1R.squeeze(1)));
    const at::Tensor kv_b = context.weight(name + ".kv_b_proj.weight").view({heads, -1, c.kv_lora_rank});
    if (cache.length > 0)
      return absorbed_attend(q[0], q_pe_THR, c_MC, pe_MR, kv_b, scale, context.state->layout.groups[0].mask_BLL[0]);
  }
  // split, not narrow: the gradients of the parts are put side by side instead of each into a tensor of zeros.
  const auto kv = linear(context, name + ".kv_b_proj", c_kv)
                      .view({rows, heads, c.qk_nope_head_dim + c.v_head_dim})
                      .split_with_sizes({c.qk_nope_head_dim, c.v_head_dim}, 2);
  const at::Tensor q_rotated_THK = at::cat({q[0], q_pe_THR}, 2);
  const at::Tensor k_THK = at::cat({kv[0], k_pe_T1R.expand({rows, heads, c.qk_rope_head_dim})}, 2);
  const at::Tensor& v_THV = kv[1];
  return attend_any(context, layer, q_rotated_THK, k_THK, v_THV, scale);
}

}  // namespace

at::Tensor attend(const at::Tensor& q_BLHK, const at::Tensor& k_BMHK, const at::Tensor& v_BMHV, double scale,
                  const at::Tensor& mask_BLM, at::Tensor* probabilities) {
#if TORCH_VERSION_MAJOR >= 2
  // Without scores in memory; float32 keeps to plain products.
  if (q_BLHK.is_cuda() && q_BLHK.scalar_type() == at::kBFloat16 && probabilities == nullptr) {
    std::optional<at::Tensor> mask;
    if (mask_BLM.defined()) mask = mask_BLM.unsqueeze(1);
    return at::scaled_dot_product_attention(q_BLHK.transpose(1, 2), k_BMHK.transpose(1, 2), v_BMHV.transpose(1, 2),
                                            mask, 0.0, false, scale)
        .transpose(1, 2);
  }
#endif
  const int64_t batch = q_BLHK.size(0), queries = q_BLHK.size(1), heads = q_BLHK.size(2), keys = k_BMHK.size(1);
  const at::Tensor q = heads_first(q_BLHK), k = heads_first(k_BMHK), v = heads_first(v_BMHV);
  at::Tensor scores;
  if (mask_BLM.defined()) {
    const at::Tensor mask =
        mask_BLM.size(0) == 1
            ? mask_BLM.expand({batch * heads, queries, keys})
            : mask_BLM.unsqueeze(1).expand({batch, heads, queries, keys}).reshape({batch * heads, queries, keys});
    scores = at::baddbmm(mask, q, k.transpose(1, 2), 1.0, scale);
  } else {
    const at::Tensor nothing = at::zeros({1, 1, 1}, q.options()).expand({batch * heads, queries, keys});
    scores = at::baddbmm(nothing, q, k.transpose(1, 2), 0.0, scale);
  }
  const at::Tensor weights = softmax(scores);
  if (probabilities != nullptr) *probabilities = weights.detach().view({batch, heads, queries, keys});
  return at::bmm(weights, v).view({batch, heads, queries, -1}).transpose(1, 2);
}

at::Tensor attention(const ModelContext& context, int64_t layer, const at::Tensor& normed_TD) {
  const std::string name = fmt::format("language.model.layers.{}.self_attn", layer);
  const at::Tensor attended = context.language().use_mla ? multi_head_latent_attention(context, layer, name, normed_TD)
                                                         : multi_head_attention(context, layer, name, normed_TD);
  at::Tensor out_TD = linear(context, name + ".o_proj", attended);
  context.stage(fmt::format("layer.{}.attn_out", layer), out_TD);
  return out_TD;
}

}  // namespace vl2::train

// T: rows of the batch, R: rows whose logits are wanted, D: hidden size.
#include "train/model/decoder.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "train/model/attention.h"
#include "train/model/cross_entropy.h"
#include "train/model/moe.h"
#include "train/model/recompute.h"
#include "train/model/tensor_ops.h"

namespace vl2::train {
namespace {

constexpr const char* kEmbedding = "language.model.embed_tokens.weight";

at::Tensor output_norm(const ModelContext& context, const at::Tensor& x_RD) {
  return rms_norm(x_RD, context.weight("language.model.norm.weight"), context.language().rms_norm_eps);
}

at::Tensor decoder_layer(const ModelContext& context, int64_t layer, const at::Tensor& x_TD) {
  const double eps = context.language().rms_norm_eps;
  const std::string name = fmt::format("language.model.layers.{}.", layer);
  at::Tensor normed_TD = rms_norm(x_TD, context.weight(name + "input_layernorm.weight"), eps);
  context.stage(fmt::format("layer.{}.input_norm", layer), normed_TD);
  const at::Tensor middle_TD = x_TD + attention(context, layer, normed_TD);

  normed_TD = rms_norm(middle_TD, context.weight(name + "post_attention_layernorm.weight"), eps);
  context.stage(fmt::format("layer.{}.post_norm", layer), normed_TD);
  return middle_TD + feed_forward(context, layer, normed_TD);
}

}  // namespace

at::Tensor decoder(const ModelContext& context, const at::Tensor& x_TD) {
  const int64_t layers = context.language().num_hidden_layers;
  at::Tensor x = x_TD;
  for (int64_t i = 0; i < layers; ++i) {
    context.stage(fmt::format("hidden.{}", i), x);
    const Stage layer = [i](const ModelContext& inner, const at::Tensor& y) { return decoder_layer(inner, i, y); };
    x = context.state->options.recompute_layers
            ? recompute(context, fmt::format("language.model.layers.{}.", i), x, layer)
            : layer(context, x);
  }
  if (context.traced()) context.stage(fmt::format("hidden.{}", layers), output_norm(context, x));
  return x;
}

at::Tensor output_logits(const ModelContext& context, const at::Tensor& x_RD) {
  const at::Tensor normed_RD = output_norm(context, x_RD);
  const at::Tensor logits = context.language().tie_word_embeddings
                                ? at::linear(context.factor(normed_RD), context.weight(kEmbedding))
                                : linear(context, "language.lm_head", normed_RD);
  return logits.to(at::kFloat);
}

at::Tensor output_losses(const ModelContext& context, const at::Tensor& x_RD, const at::Tensor& target_R) {
  const bool tied = context.language().tie_word_embeddings;
  const std::string weight = tied ? kEmbedding : "language.lm_head.weight";
  if (!tied && context.adapters != nullptr && context.adapters->count(weight) > 0) {
    const at::Tensor log_RV = output_logits(context, x_RD).log_softmax(1);
    return log_RV.gather(1, target_R.unsqueeze(1)).squeeze(1).neg();
  }
  return cross_entropy(output_norm(context, x_RD), context.weight(weight), target_R);
}

}  // namespace vl2::train

// T: tokens of the batch, D: hidden size, R: rotated channels, S: rows whose logits are wanted.
#include "engine/model/decoder.h"

#include "engine/model/moe.h"

namespace vl2 {
namespace {

RotaryEmbedding rotary_embedding(const ModelContext& context, const RopeAngles& angles, const ForwardBatch& batch,
                                 int64_t rows) {
  const int64_t half = rotary_dim(context.config.language) / 2;
  RotaryEmbedding rotary;
  rotary.cos_TR = context.ops.workspace().tensor(rows, half);
  rotary.sin_TR = context.ops.workspace().tensor(rows, half);
  rotary.softmax_scale_factor = static_cast<float>(angles.softmax_scale_factor());
  std::vector<int64_t> positions;
  std::vector<float> cos(static_cast<size_t>(rows * half)), sin(cos.size());
  const Tensor cos_TR{cos.data(), rows, 1, half, half, half}, sin_TR{sin.data(), rows, 1, half, half, half};
  for (const SequenceSlice& s : batch.sequences) {
    positions.resize(static_cast<size_t>(s.count));
    for (int64_t i = 0; i < s.count; ++i) positions[static_cast<size_t>(i)] = s.past + i;
    angles.fill(positions, s.past + s.count, cos_TR.row_range(s.begin, s.count), sin_TR.row_range(s.begin, s.count));
  }
  context.ops.upload(rotary.cos_TR, cos);
  context.ops.upload(rotary.sin_TR, sin);
  return rotary;
}

// What the layers of a step depend on beside its sequences (Ops::repeat).
std::vector<int64_t> identity(const ModelWeights& weights, Tensor x_TD, const RotaryEmbedding& rotary,
                              const KvCache& cache) {
  std::vector<int64_t> result = {x_TD.rows, cache.num_blocks(), cache.block_tokens(), cache.width()};
  for (const void* p : {static_cast<const void*>(&weights), static_cast<const void*>(x_TD.data),
                        static_cast<const void*>(rotary.cos_TR.data), static_cast<const void*>(rotary.sin_TR.data),
                        static_cast<const void*>(&cache)})
    result.push_back(reinterpret_cast<intptr_t>(p));
  return result;
}

void decoder_layer(const ModelContext& context, const LayerWeights& w, Tensor x_TD, const ForwardBatch& batch,
                   const RotaryEmbedding& rotary, KvLayer kv) {
  Ops& ops = context.ops;
  const auto eps = static_cast<float>(context.config.language.rms_norm_eps);
  const bool traced = context.shows_layer_details();
  Workspace::Scope scope(ops.workspace());
  Tensor normed_TD = ops.workspace().tensor(x_TD.rows, x_TD.cols);

  ops.rms_norm(normed_TD, x_TD, w.input_norm, eps);
  if (traced) context.stage(fmt::format("layer.{}.input_norm", kv.layer), normed_TD);
  attention(context, w.attention, normed_TD, x_TD, batch, rotary, kv);

  ops.rms_norm(normed_TD, x_TD, w.post_norm, eps);
  if (traced) context.stage(fmt::format("layer.{}.post_norm", kv.layer), normed_TD);
  feed_forward(context, w.mlp, normed_TD, x_TD, kv.layer);
}

}  // namespace

void decoder(const ModelContext& context, const ModelWeights& weights, const RopeAngles& angles, Tensor x_TD,
             const ForwardBatch& batch, KvCache& cache, Tensor logits) {
  Ops& ops = context.ops;
  const auto eps = static_cast<float>(context.config.language.rms_norm_eps);
  Workspace::Scope scope(ops.workspace());
  const RotaryEmbedding rotary = rotary_embedding(context, angles, batch, x_TD.rows);
  const auto layers = [&] {
    for (size_t i = 0; i < weights.layers.size(); ++i) {
      if (context.tap != nullptr) context.stage(fmt::format("hidden.{}", i), x_TD);
      decoder_layer(context, weights.layers[i], x_TD, batch, rotary, {&cache, static_cast<int64_t>(i)});
    }
  };
  if (context.tap != nullptr)
    layers();
  else
    ops.repeat(identity(weights, x_TD, rotary, cache), batch.sequences, layers);
  if (context.tap != nullptr) {
    Tensor normed_TD = ops.workspace().tensor(x_TD.rows, x_TD.cols);
    ops.rms_norm(normed_TD, x_TD, weights.norm, eps);
    context.stage(fmt::format("hidden.{}", weights.layers.size()), normed_TD);
  }
  if (!batch.hidden_rows.empty()) {
    ops.gather_rows(batch.hidden, x_TD, batch.hidden_rows);
    ops.rms_norm(batch.hidden, batch.hidden, weights.norm, eps);
  }
  if (batch.logit_rows.empty()) return;
  Tensor last_SD = ops.workspace().tensor(static_cast<int64_t>(batch.logit_rows.size()), x_TD.cols);
  ops.gather_rows(last_SD, x_TD, batch.logit_rows);
  ops.rms_norm(last_SD, last_SD, weights.norm, eps);
  ops.linear(logits, last_SD, weights.lm_head);
}

}  // namespace vl2

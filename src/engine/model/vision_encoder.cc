// P: patches of all tiles, W: width, F: MLP hidden size.
#include "engine/model/vision_encoder.h"

namespace vl2 {
namespace {

constexpr float kLayerNormEps = 1e-6f;

// Step by step, for whoever looks at the parts.
void traced_block(const ModelContext& context, const VisionBlockWeights& w, Tensor x_PW) {
  Ops& ops = context.ops;
  const VisionConfig& c = context.config.vision;
  Workspace::Scope scope(ops.workspace());
  Tensor normed_PW = ops.workspace().tensor(x_PW.rows, c.width);
  Tensor qkv_P3W = ops.workspace().tensor(x_PW.rows, 3 * c.width);
  Tensor attended_PW = ops.workspace().tensor(x_PW.rows, c.width);
  Tensor hidden_PF = ops.workspace().tensor(x_PW.rows, c.mlp_hidden());

  ops.layer_norm(normed_PW, x_PW, w.norm1.weight, w.norm1.bias, kLayerNormEps);
  context.stage("vision.block0.norm1", normed_PW);
  ops.linear(qkv_P3W, normed_PW, w.qkv);
  context.stage("vision.block0.qkv", qkv_P3W);
  ops.full_attention(attended_PW, qkv_P3W, c.heads, c.num_patches());
  ops.linear(normed_PW, attended_PW, w.proj);
  context.stage("vision.block0.attn_out", normed_PW);
  ops.linear_add(x_PW, attended_PW, w.proj);

  ops.layer_norm(normed_PW, x_PW, w.norm2.weight, w.norm2.bias, kLayerNormEps);
  ops.linear_gelu(hidden_PF, normed_PW, w.fc1, GeluKind::kTanh);
  context.stage("vision.block0.mlp_act", hidden_PF);
  ops.linear_add(x_PW, hidden_PF, w.fc2);
}

void vision_block(const ModelContext& context, const VisionBlockWeights& w, Tensor x_PW, int64_t index) {
  const VisionConfig& c = context.config.vision;
  if (context.tap != nullptr && index == 0) {
    traced_block(context, w, x_PW);
  } else {
    context.ops.norm_attention_add(x_PW, {w.norm1.weight, w.norm1.bias, kLayerNormEps}, w.qkv, w.proj, c.heads,
                                   c.num_patches());
    context.ops.norm_mlp_add(x_PW, {w.norm2.weight, w.norm2.bias, kLayerNormEps}, w.fc1, GeluKind::kTanh, w.fc2);
  }
  if (context.tap != nullptr) context.stage(fmt::format("vision.block.{}", index), x_PW);
}

}  // namespace

void vision_encoder(const ModelContext& context, const VisionWeights& weights, std::span<const float> pixels,
                    Tensor out_PW) {
  Ops& ops = context.ops;
  const VisionConfig& c = context.config.vision;
  Workspace::Scope scope(ops.workspace());
  Tensor x_PW = ops.workspace().tensor(out_PW.rows, c.width);
  {
    Workspace::Scope patches_scope(ops.workspace());
    Tensor patches = ops.workspace().tensor(out_PW.rows, 3 * c.patch_size * c.patch_size);
    ops.extract_patches(patches, pixels, c.image_size, c.patch_size);
    ops.linear(x_PW, patches, weights.patch_embed);
  }
  context.stage("vision.patch_embed", x_PW);
  ops.add_rows(x_PW, weights.pos_embed);
  context.stage("vision.embed", x_PW);
  for (size_t i = 0; i < weights.blocks.size(); ++i)
    vision_block(context, weights.blocks[i], x_PW, static_cast<int64_t>(i));
  ops.layer_norm(out_PW, x_PW, weights.norm.weight, weights.norm.bias, kLayerNormEps);
  context.stage("vision.out", out_PW);
}

}  // namespace vl2

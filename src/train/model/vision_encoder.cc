// N: tiles, P: patches of a tile, W: width, F: MLP hidden size, H: heads, K: width of a head.
#include "train/model/vision_encoder.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "train/model/attention.h"
#include "train/model/fused_attention.h"
#include "train/model/fused_ops.h"
#include "train/model/recompute.h"
#include "train/model/rounded_attention.h"

namespace vl2::train {
namespace {

constexpr double kLayerNormEps = 1e-6;

// (v / 255 - 0.5) / 0.5, cut into patches: rows [channel][y][x], as a convolution's weight has them.
at::Tensor patches(const VisionConfig& c, const at::Tensor& tiles) {
  const int64_t grid = c.grid(), patch = c.patch_size;
  const at::Tensor read = tiles.narrow(1, 0, grid * patch).narrow(2, 0, grid * patch);
  const at::Tensor normalised = read.to(at::kFloat).div_(255.0).sub_(0.5).div_(0.5);
  return normalised.view({tiles.size(0), grid, patch, grid, patch, 3})
      .permute({0, 1, 3, 5, 2, 4})
      .reshape({tiles.size(0) * grid * grid, 3 * patch * patch});
}

at::Tensor vision_block(const ModelContext& context, int64_t index, const at::Tensor& x_PW) {
  const VisionConfig& c = context.config().vision;
  const std::string name = fmt::format("vision.blocks.{}", index);
  const int64_t patches = c.num_patches(), tiles = x_PW.size(0) / patches;
  const auto stage = [&](const char* what, const at::Tensor& values) {
    if (index == 0) context.stage(fmt::format("vision.block0.{}", what), values.view({tiles, patches, -1}));
  };
  const at::Tensor normed_PW = layer_norm(context, name + ".norm1", x_PW, kLayerNormEps);
  stage("norm1", normed_PW);
  const at::Tensor qkv_P3W = linear(context, name + ".attn.qkv", normed_PW);
  stage("qkv", qkv_P3W);
  const double scale = 1.0 / std::sqrt(static_cast<double>(c.head_dim()));
  at::Tensor attended_PW;
  if (fusable(qkv_P3W)) {
    attended_PW = fused_attention(qkv_P3W.view({tiles * patches, 3, c.heads, c.head_dim()}), patches, scale);
  } else {
    const auto qkv_NPHK = qkv_P3W.view({tiles, patches, 3, c.heads, c.head_dim()}).unbind(2);
    const at::Tensor &q = qkv_NPHK[0], &k = qkv_NPHK[1], &v = qkv_NPHK[2], none;
    attended_PW = (context.state->rounds_factors ? rounded_attend(q, k, v, scale, none) : attend(q, k, v, scale, none))
                      .reshape({tiles * patches, c.width});
  }
  const at::Tensor out_PW = linear(context, name + ".attn.proj", attended_PW);
  stage("attn_out", out_PW);
  const at::Tensor middle_PW = x_PW + out_PW;
  const at::Tensor normed2_PW = layer_norm(context, name + ".norm2", middle_PW, kLayerNormEps);
  const at::Tensor hidden_PF = gelu_tanh(linear(context, name + ".mlp.fc1", normed2_PW));
  stage("mlp_act", hidden_PF);
  at::Tensor result_PW = middle_PW + linear(context, name + ".mlp.fc2", hidden_PF);
  context.stage(fmt::format("vision.block.{}", index), result_PW.view({tiles, patches, -1}));
  return result_PW;
}

}  // namespace

at::Tensor vision_encoder(const ModelContext& context, const at::Tensor& tiles) {
  const VisionConfig& c = context.config().vision;
  const auto by_tile = [&](const at::Tensor& x_PW) { return x_PW.view({tiles.size(0), c.num_patches(), -1}); };
  const at::Tensor embedding = context.weight("vision.patch_embed.proj.weight").view({c.width, -1});
  at::Tensor x_PW = at::linear(context.factor(patches(c, tiles).to(context.state->compute)), embedding,
                               context.weight("vision.patch_embed.proj.bias"));
  context.stage("vision.patch_embed", by_tile(x_PW));
  x_PW = (by_tile(x_PW) + context.weight("vision.pos_embed")).view({-1, c.width});
  context.stage("vision.embed", by_tile(x_PW));
  for (int64_t i = 0; i < c.layers; ++i) {
    const Stage block = [i](const ModelContext& inner, const at::Tensor& x) { return vision_block(inner, i, x); };
    x_PW = i < context.state->options.recompute_vision_blocks
               ? recompute(context, fmt::format("vision.blocks.{}.", i), x_PW, block)
               : block(context, x_PW);
  }
  x_PW = layer_norm(context, "vision.norm", x_PW, kLayerNormEps);
  context.stage("vision.out", by_tile(x_PW));
  return x_PW;
}

}  // namespace vl2::train

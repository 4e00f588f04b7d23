// N: tiles, P: patches of all tiles, W: vision width, V: vision tokens, D: hidden size.
#include "train/model/projector.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

namespace vl2::train {
namespace {

// The grid padded at the bottom and right to whole squares; features in the order channel, y, x (golden quirk 8).
at::Tensor merge_patches(const ModelConfig& config, const at::Tensor& features_PW) {
  const int64_t grid = config.vision.grid(), ratio = config.projector.downsample_ratio;
  const int64_t side = config.tokens_per_side(), missing = side * ratio - grid, width = features_PW.size(1);
  at::Tensor x = features_PW.view({-1, grid, grid, width});
  if (missing > 0) x = at::constant_pad_nd(x, {0, 0, 0, missing, 0, missing});
  return x.view({-1, side, ratio, side, ratio, width}).permute({0, 1, 3, 5, 2, 4}).reshape({-1, width * ratio * ratio});
}

}  // namespace

at::Tensor projector(const ModelContext& context, const at::Tensor& features_PW) {
  const int64_t tokens = context.config().tokens_per_side() * context.config().tokens_per_side();
  const int64_t last = context.config().projector.num_linears() - 1;
  at::Tensor x = merge_patches(context.config(), features_PW);
  context.stage("projector.unfold_in", x.view({-1, tokens, x.size(1)}));
  for (int64_t i = 0; i < last; ++i) x = at::gelu(linear(context, fmt::format("projector.layers.{}", 2 * i), x));
  x = linear(context, fmt::format("projector.layers.{}", 2 * last), x);
  context.stage("projector.out", x.view({-1, tokens, x.size(1)}));
  return x;
}

}  // namespace vl2::train

// P: patches, W: vision width, V: vision tokens, D: hidden size.
#include "engine/model/projector.h"

namespace vl2 {

void projector(const ModelContext& context, const ProjectorWeights& weights, Tensor features_PW, Tensor out_VD) {
  Ops& ops = context.ops;
  const int64_t ratio = context.config.projector.downsample_ratio;
  Workspace::Scope scope(ops.workspace());
  Tensor x = ops.workspace().tensor(out_VD.rows, features_PW.cols * ratio * ratio);
  ops.pixel_shuffle(x, features_PW, context.config.vision.grid(), ratio);
  context.stage("projector.unfold_in", x);
  for (size_t i = 0; i + 1 < weights.layers.size(); ++i) {
    Tensor y = ops.workspace().tensor(x.rows, weights.layers[i].weight.out);
    ops.linear_gelu(y, x, weights.layers[i], GeluKind::kErf);
    x = y;
  }
  ops.linear(out_VD, x, weights.layers.back());
  context.stage("projector.out", out_VD);
}

}  // namespace vl2

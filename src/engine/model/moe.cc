#include "engine/model/moe.h"

namespace vl2 {

RouterParams router_params(const LanguageConfig& c) {
  return {.topk_method = c.topk_method,
          .scoring_func = c.scoring_func,
          .top_k = c.num_experts_per_tok,
          .num_groups = c.n_group,
          .topk_groups = c.topk_group,
          .norm_topk_prob = c.norm_topk_prob,
          .routed_scaling_factor = static_cast<float>(c.routed_scaling_factor)};
}

void feed_forward(const ModelContext& context, const std::variant<DenseWeights, MoeWeights>& weights, Tensor normed_TD,
                  Tensor residual_TD, int64_t layer) {
  Ops& ops = context.ops;
  Workspace::Scope scope(ops.workspace());
  Tensor out_TD = ops.workspace().tensor(normed_TD.rows, normed_TD.cols);
  if (const auto* dense = std::get_if<DenseWeights>(&weights)) {
    ops.swiglu(out_TD, normed_TD, dense->mlp);
  } else {
    const MoeWeights& moe = std::get<MoeWeights>(weights);
    const Routing routing = ops.route(normed_TD, moe.gate, moe.expert_bias, router_params(context.config.language));
    context.routing(layer, routing);
    if (moe.shared && !context.shows_layer_details())
      return ops.all_experts_add(residual_TD, normed_TD, routing, moe.experts, *moe.shared);
    ops.routed_experts(out_TD, normed_TD, routing, moe.experts);
    if (moe.shared) {
      Tensor shared_TD = ops.workspace().tensor(normed_TD.rows, normed_TD.cols);
      ops.swiglu(shared_TD, normed_TD, *moe.shared);
      context.stage(fmt::format("layer.{}.shared_out", layer), shared_TD);
      ops.add(out_TD, shared_TD);
    }
  }
  if (context.shows_layer_details()) context.stage(fmt::format("layer.{}.mlp_out", layer), out_TD);
  ops.add(residual_TD, out_TD);
}

}  // namespace vl2

// T: tokens, D: hidden size, E: experts, K: experts of a token, S: rows of all experts, I: expert hidden size, B: rows
// of the balance loss, G: groups of experts.
#include "train/model/moe.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include "train/model/expert_plan.h"
#include "train/model/fused_ops.h"

namespace vl2::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// y, whose backward pass also sends `scale` to the balance loss, whatever y's own gradient is.
class AttachLoss : public torch::autograd::Function<AttachLoss> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& y, const at::Tensor& /*loss*/, double scale) {
    context->saved_data["scale"] = scale;
    return y.view_as(y);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const at::Tensor grad_loss =
        at::full({}, context->saved_data["scale"].toDouble(), grads[0].options().dtype(at::kFloat));
    return {grads[0], grad_loss, at::Tensor()};
  }
};

at::Tensor swiglu(const ModelContext& context, const std::string& name, const at::Tensor& x) {
  const at::Tensor gate = linear(context, name + ".gate_proj", x);
  const at::Tensor up = linear(context, name + ".up_proj", x);
  return linear(context, name + ".down_proj", silu_mul(gate, up));
}

// x_S times its rows' expert's matrix, with the adapter of that projection.
at::Tensor batched_linear(const ModelContext& context, const std::string& name, const at::Tensor& x, int64_t experts) {
  const at::Tensor x_ESD = x.view({experts, -1, x.size(1)});
  at::Tensor y = at::bmm(context.factor(x_ESD), context.stacked_experts(name).transpose(1, 2));
  ModelContext::Lora adapter;
  if (context.find_adapter(name, adapter)) {
    const at::Tensor low = at::bmm(adapter_dropout(context, name, adapter.dropout, x_ESD), adapter.a.transpose(1, 2));
    y = y + at::bmm(low, adapter.b.transpose(1, 2)) * adapter.scale;
  }
  return y.view({x.size(0), -1});
}

at::Tensor single_linears(const ModelContext& context, const std::string& name, const at::Tensor& x,
                          const ExpertPlan& plan) {
  const std::vector<at::Tensor> weights = context.expert_list(name);
  const std::vector<at::Tensor> parts = x.split_with_sizes(plan.expert_rows);
  ModelContext::Lora adapter;
  const bool adapted = context.find_adapter(name, adapter);
  std::vector<at::Tensor> as, bs, dropped, results;
  if (adapted) {
    as = adapter.a.unbind(0);
    bs = adapter.b.unbind(0);
    dropped = adapter_dropout(context, name, adapter.dropout, x).split_with_sizes(plan.expert_rows);
  }
  for (size_t e = 0; e < weights.size(); ++e) {
    if (plan.expert_rows[e] == 0) continue;
    at::Tensor y = at::linear(context.factor(parts[e]), weights[e]);
    if (adapted) y = y + at::linear(at::linear(dropped[e], as[e]), bs[e]) * adapter.scale;
    results.push_back(y);
  }
  return at::cat(results);
}

at::Tensor expert_linear(const ModelContext& context, const std::string& name, const at::Tensor& x,
                         const ExpertPlan& plan) {
  const bool mapped = !context.parameters->at(name).mapped.empty();
  return plan.batched && !mapped ? batched_linear(context, name, x, static_cast<int64_t>(plan.expert_rows.size()))
                                 : single_linears(context, name, x, plan);
}

at::Tensor routed_experts(const ModelContext& context, const std::string& name, const at::Tensor& x_TD,
                          const Routing& routing, const ExpertPlan& plan) {
  const std::string experts = name + ".experts.*.";
  const at::Tensor x_SD = dispatch(x_TD, plan);
  const at::Tensor gate_SI = expert_linear(context, experts + "gate_proj.weight", x_SD, plan);
  const at::Tensor up_SI = expert_linear(context, experts + "up_proj.weight", x_SD, plan);
  const at::Tensor y_SD = expert_linear(context, experts + "down_proj.weight", silu_mul(gate_SI, up_SI), plan);
  return combine(y_SD, routing.weight_TK, plan, x_TD.size(0));
}

void trace_routing(const ModelContext& context, int64_t layer, const Routing& routing) {
  context.stage(fmt::format("gate.{}.topk_idx", layer), routing.expert_TK);
  context.stage(fmt::format("gate.{}.topk_weight", layer), routing.weight_TK);
  context.stage(fmt::format("gate.{}.scores", layer), routing.scores_TE);
}

at::Tensor mixture(const ModelContext& context, int64_t layer, const std::string& name, const at::Tensor& x_TD) {
  const LanguageConfig& c = context.language();
  const ForwardOptions& options = context.state->options;
  const at::Tensor real_TD = x_TD.narrow(0, 0, context.state->tokens);
  const at::Tensor logits_TE = at::linear(real_TD.to(at::kFloat), context.master(name + ".gate.weight").to(at::kFloat));
  const bool biased = c.topk_method == TopkMethod::kNoauxTc;
  const at::Tensor bias_E =
      biased ? context.master(name + ".gate.e_score_correction_bias").to(at::kFloat) : at::Tensor();
  const Routing routing = route(c, logits_TE, bias_E);
  if (context.traced()) trace_routing(context, layer, routing);
  const ExpertPlan plan = plan_experts(routing.expert_TK, *c.n_routed_experts);
  at::Tensor out_TD = routed_experts(context, name, x_TD, routing, plan);

  if (context.state->row_mean_BT.defined()) {
    const at::Tensor loss = balance_loss(c, routing, context.state->row_mean_BT, options.aux_loss_alpha);
    if (context.record != nullptr) {
      context.record->moe_layers.push_back(layer);
      context.record->aux_losses.push_back(loss.detach());
      context.record->tokens_per_expert.push_back(plan.counts_E);
    }
    if (options.aux_gradient && loss.requires_grad()) out_TD = AttachLoss::apply(out_TD, loss, options.aux_scale);
  }
  if (c.n_shared_experts > 0) {
    const at::Tensor shared_TD = swiglu(context, name + ".shared_experts", x_TD);
    context.stage(fmt::format("layer.{}.shared_out", layer), shared_TD);
    out_TD = out_TD + shared_TD;
  }
  return out_TD;
}

// Members of the groups that are not kept count as 0, not as the worst (golden quirk 16).
at::Tensor keep_best_groups(const LanguageConfig& c, const at::Tensor& choice_TE) {
  const int64_t members = choice_TE.size(1) / c.n_group;
  const at::Tensor grouped_TGM = choice_TE.view({-1, c.n_group, members});
  const at::Tensor score_TG = c.topk_method == TopkMethod::kNoauxTc && members > 1
                                  ? std::get<0>(grouped_TGM.topk(2, -1)).sum(-1)
                                  : std::get<0>(grouped_TGM.max(-1));
  const at::Tensor kept_TG = at::zeros_like(score_TG).scatter_(1, std::get<1>(score_TG.topk(c.topk_group, -1)), 1.0);
  return grouped_TGM.masked_fill(kept_TG.unsqueeze(-1).eq(0), 0.0).view_as(choice_TE);
}

}  // namespace

Routing route(const LanguageConfig& c, const at::Tensor& logits_TE, const at::Tensor& bias_E) {
  Routing routing;
  routing.scores_TE = c.scoring_func == ScoringFunc::kSigmoid ? logits_TE.sigmoid() : logits_TE.softmax(-1);
  at::Tensor choice_TE = routing.scores_TE.detach();
  if (bias_E.defined()) choice_TE = choice_TE + bias_E.detach();
  if (c.topk_method != TopkMethod::kGreedy && c.topk_group < c.n_group) choice_TE = keep_best_groups(c, choice_TE);
  // By number, so that sums over experts have one order.
  routing.expert_TK = std::get<0>(std::get<1>(choice_TE.topk(c.num_experts_per_tok, -1)).sort(-1));
  routing.weight_TK = routing.scores_TE.gather(1, routing.expert_TK);
  if (c.num_experts_per_tok > 1 && c.norm_topk_prob)
    routing.weight_TK = routing.weight_TK / (routing.weight_TK.sum(-1, true) + 1e-20);
  if (c.routed_scaling_factor != 1.0) routing.weight_TK = routing.weight_TK * c.routed_scaling_factor;
  return routing;
}

at::Tensor balance_loss(const LanguageConfig& c, const Routing& routing, const at::Tensor& row_mean_BT, double alpha) {
  const int64_t experts = routing.scores_TE.size(1);
  const double share = static_cast<double>(experts) / static_cast<double>(c.num_experts_per_tok);
  const at::Tensor chosen_TE = at::zeros_like(routing.scores_TE.detach()).scatter_(1, routing.expert_TK, 1.0);
  const at::Tensor f_BE = at::mm(row_mean_BT, chosen_TE).mul_(share);
  const at::Tensor s_TE =
      c.scoring_func == ScoringFunc::kSigmoid ? routing.scores_TE / routing.scores_TE.sum(-1, true) : routing.scores_TE;
  const at::Tensor p_BE = at::mm(row_mean_BT, s_TE);
  return (f_BE * p_BE).sum(1).mean() * alpha;
}

at::Tensor feed_forward(const ModelContext& context, int64_t layer, const at::Tensor& normed_TD) {
  const std::string name = fmt::format("language.model.layers.{}.mlp", layer);
  at::Tensor out_TD =
      context.language().is_moe(layer) ? mixture(context, layer, name, normed_TD) : swiglu(context, name, normed_TD);
  context.stage(fmt::format("layer.{}.mlp_out", layer), out_TD);
  return out_TD;
}

}  // namespace vl2::train

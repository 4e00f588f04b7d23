#include "engine/cuda/cuda_experts.h"

#include "engine/cuda/kernels/linear.h"
#include "engine/cuda/kernels/route.h"

namespace vl2::cuda {

void Experts::route(const CudaContext& context, Routing& routing, Tensor x, const Weight& gate, const Weight& bias,
                    const RouterParams& p) {
  if (x.rows == 0) return;
  VL2_CHECK(routing.num_experts <= 4096 && p.top_k <= 32 && p.num_groups <= 32,
            "the CUDA router takes 4096 experts, 32 of a token and 32 groups, not {}, {} and {}", routing.num_experts,
            p.top_k, p.num_groups);
  Workspace::Scope scope(context.workspace);
  Tensor logits = context.workspace.tensor(x.rows, routing.num_experts);
  linear(context, logits, x, gate, {}, false);
  Route r;
  r.expert = routing.expert.data();
  r.weight = routing.weight.data();
  r.scores = routing.scores.data();
  r.choice = routing.choice.data();
  r.logits = logits.data;
  r.logits_stride = logits.row_stride;
  r.rows = x.rows;
  r.experts = routing.num_experts;
  r.top_k = p.top_k;
  r.num_groups = p.num_groups;
  r.topk_groups = p.topk_groups;
  r.bias = p.topk_method == TopkMethod::kNoauxTc ? vector(bias) : nullptr;
  r.sigmoid = p.scoring_func == ScoringFunc::kSigmoid;
  r.limit_groups = p.topk_method != TopkMethod::kGreedy;
  r.two_best = p.topk_method == TopkMethod::kNoauxTc;
  r.normalise = p.top_k > 1 && p.norm_topk_prob;
  r.scaling = p.routed_scaling_factor;
  choose_experts(context.stream(), r);
}

void Experts::routed_experts(const CudaContext&, Tensor, Tensor, const Routing&, const ExpertWeights&) {
  fail(ErrorCode::kUnsupported, "experts: not yet");
}

}  // namespace vl2::cuda

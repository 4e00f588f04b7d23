// Where each token's share of each of its experts is computed: rows of one tensor, expert by expert.
//
// Either every expert has as many rows (one batched product) or, when the load is uneven or a handful of tokens is all
// there is, each has about what it needs (a product an expert). Row counts are rounded up because oneDNN compiles every
// new shape of a bf16 product.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace vl2::train {

struct ExpertPlan {
  std::vector<int64_t> expert_rows;  // rows of each expert
  bool batched = false;              // all the same
  at::Tensor counts_E;               // int64: tokens of each expert
  at::Tensor token_of_S;             // what stands in each row; rows that nobody reads hold token 0
  at::Tensor pair_of_S;              // its place in [T, K] flattened
  at::Tensor used_S;                 // float32, 1 or 0: the row is read
  at::Tensor row_of_TK;              // [T, K]
};

// expert_TK: int64. On a GPU only the experts' counts come back; the plan is the same.
ExpertPlan plan_experts(const at::Tensor& expert_TK, int64_t num_experts);
// The two ways to make it, by the tensor's device: `excess` is how much more a batched product may compute.
ExpertPlan plan_experts_on_host(const at::Tensor& expert_TK, int64_t num_experts, double excess);
ExpertPlan plan_experts_by_sorting(const at::Tensor& expert_TK, int64_t num_experts, double excess);

// x_TD [rows, D] -> [S, D]; only the plan's tokens are read.
at::Tensor dispatch(const at::Tensor& x_TD, const ExpertPlan& plan);

// sum_k weight_tk y[row of (t, k)] in float32, rounded to y's type; [rows, D], rows beyond the plan's tokens zero.
at::Tensor combine(const at::Tensor& y_SD, const at::Tensor& weight_TK, const ExpertPlan& plan, int64_t rows);

}  // namespace vl2::train

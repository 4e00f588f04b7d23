// T: tokens, K: experts of a token, E: experts, S: rows of all experts, D: width.
#include "train/model/expert_plan.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <iterator>
#include <numeric>

#include "train/model/tensor_ops.h"

namespace vl2::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

int64_t rounded_rows(int64_t n) {
  if (n <= 4) return n;
  if (n <= 64) return round_up(n, 16);
  return round_up(n, n <= 512 ? 64 : 128);
}

// A batched product may compute this much more than is needed: it saves the overhead of a product an expert.
constexpr double kBatchedExcess = 1.3;
constexpr double kBatchedExcessOfGpu = 3.0;  // where starting a product costs more than computing a small one

int64_t total(const std::vector<int64_t>& rows) { return std::accumulate(rows.begin(), rows.end(), int64_t{0}); }

// Sets the rows of each expert; returns the first of each.
std::vector<int64_t> divide_rows(ExpertPlan& plan, const std::vector<int64_t>& counts, double excess) {
  int64_t most = 0;
  for (const int64_t count : counts) {
    plan.expert_rows.push_back(rounded_rows(count));
    most = std::max(most, plan.expert_rows.back());
  }
  plan.batched =
      static_cast<double>(most * std::ssize(counts)) <= excess * static_cast<double>(total(plan.expert_rows));
  if (plan.batched) std::fill(plan.expert_rows.begin(), plan.expert_rows.end(), most);
  std::vector<int64_t> first(counts.size(), 0);
  std::exclusive_scan(plan.expert_rows.begin(), plan.expert_rows.end(), first.begin(), int64_t{0});
  return first;
}

at::Tensor pad_rows(const at::Tensor& x_TD, int64_t rows) {
  return x_TD.size(0) == rows ? x_TD : at::constant_pad_nd(x_TD, {0, 0, 0, rows - x_TD.size(0)});
}

class Dispatch : public torch::autograd::Function<Dispatch> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_TD, const at::Tensor& token_of_S,
                            const at::Tensor& row_of_TK) {
    context->saved_data["rows"] = x_TD.size(0);
    context->save_for_backward({row_of_TK});
    return x_TD.index_select(0, token_of_S);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const at::Tensor row_of_TK = context->get_saved_variables()[0];
    at::Tensor grad_TD;
    for (int64_t k = 0; k < row_of_TK.size(1); ++k) {
      const at::Tensor share_TD = grads[0].index_select(0, row_of_TK.select(1, k)).to(at::kFloat);
      grad_TD = k == 0 ? share_TD : grad_TD.add_(share_TD);
    }
    return {pad_rows(grad_TD.to(grads[0].scalar_type()), context->saved_data["rows"].toInt()), at::Tensor(),
            at::Tensor()};
  }
};

class Combine : public torch::autograd::Function<Combine> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& y_SD, const at::Tensor& weight_TK,
                            const ExpertPlan& plan, int64_t rows) {
    context->save_for_backward({y_SD, weight_TK, plan.row_of_TK, plan.token_of_S, plan.pair_of_S, plan.used_S});
    at::Tensor out_TD;
    for (int64_t k = 0; k < weight_TK.size(1); ++k) {
      const at::Tensor share_TD =
          y_SD.index_select(0, plan.row_of_TK.select(1, k)).to(at::kFloat).mul_(weight_TK.narrow(1, k, 1));
      out_TD = k == 0 ? share_TD : out_TD.add_(share_TD);
    }
    return pad_rows(out_TD.to(y_SD.scalar_type()), rows);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &y_SD = saved[0], &weight_TK = saved[1], &row_of_TK = saved[2], &token_of_S = saved[3],
                     &pair_of_S = saved[4], &used_S = saved[5];
    at::Tensor grad_y_SD, grad_weight_TK;
    if (context->needs_input_grad(0)) {
      const at::Tensor weight_S1 = weight_TK.reshape(-1).index_select(0, pair_of_S).mul_(used_S).unsqueeze(1);
      grad_y_SD = grads[0].index_select(0, token_of_S).mul(weight_S1).to(y_SD.scalar_type());
    }
    if (context->needs_input_grad(1)) {
      std::vector<at::Tensor> columns;
      const at::Tensor grad_TD = grads[0].narrow(0, 0, weight_TK.size(0)).to(at::kFloat);
      for (int64_t k = 0; k < weight_TK.size(1); ++k)
        columns.push_back(y_SD.index_select(0, row_of_TK.select(1, k)).to(at::kFloat).mul_(grad_TD).sum(1));
      grad_weight_TK = at::stack(columns, 1);
    }
    return {grad_y_SD, grad_weight_TK, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

ExpertPlan plan_experts_on_host(const at::Tensor& expert_TK, int64_t num_experts, double excess) {
  const at::Tensor host_TK = expert_TK.cpu().contiguous();
  const int64_t* expert = host_TK.data_ptr<int64_t>();
  const int64_t pairs = host_TK.numel(), per_token = host_TK.size(1);
  std::vector<int64_t> counts(static_cast<size_t>(num_experts), 0);
  for (int64_t i = 0; i < pairs; ++i) ++counts[static_cast<size_t>(expert[i])];

  ExpertPlan plan;
  std::vector<int64_t> next = divide_rows(plan, counts, excess);
  const int64_t rows = total(plan.expert_rows);
  std::vector<int64_t> token_of(static_cast<size_t>(rows), 0), pair_of(static_cast<size_t>(rows), 0);
  std::vector<int64_t> row_of(static_cast<size_t>(pairs));
  at::Tensor used = at::zeros({rows}, at::kFloat);
  auto* is_used = used.data_ptr<float>();
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t row = next[static_cast<size_t>(expert[i])]++;
    row_of[static_cast<size_t>(i)] = row;
    token_of[static_cast<size_t>(row)] = i / per_token;
    pair_of[static_cast<size_t>(row)] = i;
    is_used[row] = 1.0f;
  }
  const at::Device device = expert_TK.device();
  plan.counts_E = to_tensor(counts, device);
  plan.token_of_S = to_tensor(token_of, device);
  plan.pair_of_S = to_tensor(pair_of, device);
  plan.used_S = used.to(device);
  plan.row_of_TK = to_tensor(row_of, device).view({-1, per_token});
  return plan;
}

ExpertPlan plan_experts_by_sorting(const at::Tensor& expert_TK, int64_t num_experts, double excess) {
  const c10::NoGradGuard no_gradients;
  const at::Tensor expert_P = expert_TK.reshape(-1);
  const int64_t pairs = expert_P.size(0), per_token = expert_TK.size(1);
  const auto whole = expert_P.options();
  ExpertPlan plan;
  plan.counts_E = at::zeros({num_experts}, whole).scatter_add_(0, expert_P, at::ones({pairs}, whole));
  const at::Tensor host_E = plan.counts_E.cpu();
  const std::vector<int64_t> counts(host_E.data_ptr<int64_t>(), host_E.data_ptr<int64_t>() + num_experts);
  std::vector<int64_t> shift = divide_rows(plan, counts, excess);  // an expert's first row, less its first place sorted
  for (size_t e = 0, before = 0; e < shift.size(); before += static_cast<size_t>(counts[e++]))
    shift[e] -= static_cast<int64_t>(before);
  const int64_t rows = total(plan.expert_rows);

  const at::Tensor pair_P = at::argsort(expert_P, true, 0, false);  // stable: an expert's tokens stay in order
  const at::Tensor shift_P = to_tensor(shift, expert_P.device()).index_select(0, expert_P.index_select(0, pair_P));
  const at::Tensor row_P = at::arange(pairs, whole).add_(shift_P);
  plan.row_of_TK = at::empty({pairs}, whole).scatter_(0, pair_P, row_P).view({-1, per_token});
  plan.pair_of_S = at::zeros({rows}, whole).scatter_(0, row_P, pair_P);
  plan.token_of_S = plan.pair_of_S.floor_divide(per_token);
  plan.used_S = at::zeros({rows}, whole.dtype(at::kFloat)).index_fill_(0, row_P, 1.0);
  return plan;
}

ExpertPlan plan_experts(const at::Tensor& expert_TK, int64_t num_experts) {
  return expert_TK.is_cpu() ? plan_experts_on_host(expert_TK, num_experts, kBatchedExcess)
                            : plan_experts_by_sorting(expert_TK, num_experts, kBatchedExcessOfGpu);
}

at::Tensor dispatch(const at::Tensor& x_TD, const ExpertPlan& plan) {
  return Dispatch::apply(x_TD, plan.token_of_S, plan.row_of_TK);
}

at::Tensor combine(const at::Tensor& y_SD, const at::Tensor& weight_TK, const ExpertPlan& plan, int64_t rows) {
  return Combine::apply(y_SD, weight_TK, plan, rows);
}

}  // namespace vl2::train

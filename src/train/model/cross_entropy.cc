// R: rows, V: vocabulary, D: hidden size.
#include "train/model/cross_entropy.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace vl2::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kLogitsAtOnce = int64_t{1} << 25;

int64_t rows_at_once(const at::Tensor& weight_VD) {
  return std::max<int64_t>(64, kLogitsAtOnce / weight_VD.size(0) / 64 * 64);
}

class CrossEntropy : public torch::autograd::Function<CrossEntropy> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden_RD, const at::Tensor& weight_VD,
                            const at::Tensor& target_R) {
    const int64_t rows = hidden_RD.size(0), step = rows_at_once(weight_VD);
    const at::Tensor normaliser_R = at::empty({rows}, hidden_RD.options().dtype(at::kFloat));
    const at::Tensor target_logit_R = at::empty_like(normaliser_R);
    at::Tensor logits_RV;
    for (int64_t first = 0; first < rows; first += step) {
      const int64_t count = std::min(step, rows - first);
      logits_RV = at::linear(hidden_RD.narrow(0, first, count), weight_VD);
      const at::Tensor wide_RV = logits_RV.to(at::kFloat);
      normaliser_R.narrow(0, first, count).copy_(wide_RV.logsumexp(1));
      target_logit_R.narrow(0, first, count)
          .copy_(wide_RV.gather(1, target_R.narrow(0, first, count).unsqueeze(1)).squeeze(1));
    }
    variable_list saved = {hidden_RD, weight_VD, target_R, normaliser_R};
    if (rows <= step && rows > 0) saved.push_back(logits_RV);  // few enough to be kept
    context->save_for_backward(saved);
    return normaliser_R.sub(target_logit_R);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &hidden_RD = saved[0], &weight_VD = saved[1], &target_R = saved[2], &normaliser_R = saved[3];
    const int64_t rows = hidden_RD.size(0), step = rows_at_once(weight_VD);
    const bool wants_weight = context->needs_input_grad(1);
    const at::Tensor grad_hidden_RD = at::empty_like(hidden_RD);
    at::Tensor grad_weight_VD;
    for (int64_t first = 0; first < rows; first += step) {
      const int64_t count = std::min(step, rows - first);
      const at::Tensor part_RD = hidden_RD.narrow(0, first, count);
      const at::Tensor logits_RV = saved.size() > 4 ? saved[4] : at::linear(part_RD, weight_VD);
      at::Tensor grad_RV = logits_RV.to(at::kFloat).sub(normaliser_R.narrow(0, first, count).unsqueeze(1)).exp_();
      const at::Tensor target_R1 = target_R.narrow(0, first, count).unsqueeze(1);
      grad_RV.scatter_add_(1, target_R1, at::full_like(target_R1, -1, grad_RV.options()));
      grad_RV = grad_RV.mul_(grads[0].narrow(0, first, count).unsqueeze(1)).to(hidden_RD.scalar_type());
      grad_hidden_RD.narrow(0, first, count).copy_(at::mm(grad_RV, weight_VD));
      if (!wants_weight) continue;
      const at::Tensor share_VD = at::mm(grad_RV.t(), part_RD);
      // Several shares are added in float32.
      if (rows <= step) {
        grad_weight_VD = share_VD;
      } else {
        grad_weight_VD = first == 0 ? share_VD.to(at::kFloat) : grad_weight_VD.add_(share_VD);
      }
    }
    if (wants_weight)
      grad_weight_VD =
          grad_weight_VD.defined() ? grad_weight_VD.to(weight_VD.scalar_type()) : at::zeros_like(weight_VD);
    return {grad_hidden_RD, grad_weight_VD, at::Tensor()};
  }
};

}  // namespace

at::Tensor cross_entropy(const at::Tensor& hidden_RD, const at::Tensor& weight_VD, const at::Tensor& target_R) {
  return CrossEntropy::apply(hidden_RD, weight_VD, target_R);
}

}  // namespace vl2::train

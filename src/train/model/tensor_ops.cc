// R: rows, D: width.
#include "train/model/tensor_ops.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "train/model/fused_ops.h"

namespace vl2::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_RD, const at::Tensor& weight, double eps) {
    const at::Tensor x32_RD = x_RD.to(at::kFloat);
    const at::Tensor scale_R1 = x32_RD.square().mean(-1, true).add_(eps).rsqrt_();
    context->save_for_backward({x_RD, weight, scale_R1});
    return x32_RD.mul(scale_R1).to(x_RD.scalar_type()).mul(weight);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x_RD = saved[0], &weight = saved[1], &scale_R1 = saved[2];
    const at::Tensor normed_RD = x_RD.to(at::kFloat).mul(scale_R1);
    const at::Tensor grad_RD = grads[0].to(at::kFloat);
    at::Tensor grad_x_RD, grad_weight;
    if (context->needs_input_grad(1)) grad_weight = grad_RD.mul(normed_RD).sum(0).to(weight.scalar_type());
    if (context->needs_input_grad(0)) {
      const at::Tensor scaled_RD = grad_RD.mul(weight);
      const at::Tensor mean_R1 = scaled_RD.mul(normed_RD).mean(-1, true);
      grad_x_RD = scaled_RD.sub(normed_RD.mul(mean_R1)).mul_(scale_R1).to(x_RD.scalar_type());
    }
    return {grad_x_RD, grad_weight, at::Tensor()};
  }
};

at::Tensor select_rows(const at::Tensor& source, const at::Tensor& index, const at::Tensor& zeros) {
  if (source.size(0) == 0) {  // index_select refuses; all rows are zeros
    std::vector<int64_t> shape = source.sizes().vec();
    shape[0] = index.size(0);
    return at::zeros(shape, source.options());
  }
  at::Tensor result = source.index_select(0, index);
  if (zeros.defined()) result.index_fill_(0, zeros, 0);
  return result;
}

// Undefined tensors cannot be arguments of a Function: an empty one says that there are no zeros.
class MoveRows : public torch::autograd::Function<MoveRows> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const RowMap& there, const RowMap& back) {
    context->saved_data["index"] = back.index();
    if (back.zeros().defined()) context->saved_data["zeros"] = back.zeros();
    return there.apply(x);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto zeros = context->saved_data.find("zeros");
    return {select_rows(grads[0], context->saved_data["index"].toTensor(),
                        zeros == context->saved_data.end() ? at::Tensor() : zeros->second.toTensor()),
            at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x_RD, const at::Tensor& weight, double eps) {
  if (fusable(x_RD) && fusable(weight) && x_RD.dim() == 2) return fused_rms_norm(x_RD, weight, eps);
  return RmsNorm::apply(x_RD, weight, eps);
}

RowMap::RowMap(const std::vector<int64_t>& index, at::Device device) {
  std::vector<int64_t> from(index), empty;
  for (size_t i = 0; i < index.size(); ++i) {
    if (index[i] >= 0) continue;
    from[i] = 0;
    empty.push_back(static_cast<int64_t>(i));
  }
  index_ = to_tensor(from, device);
  if (!empty.empty()) zeros_ = to_tensor(empty, device);
}

at::Tensor RowMap::apply(const at::Tensor& source) const { return select_rows(source, index_, zeros_); }

at::Tensor move_rows(const at::Tensor& x, const RowMap& forward, const RowMap& backward) {
  return MoveRows::apply(x, forward, backward);
}

at::Tensor to_tensor(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(values, at::kLong).to(device);
}

}  // namespace vl2::train

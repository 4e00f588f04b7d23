// R: rows, D: width.
#include "train/model/fused_ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "train/model/row_kernels.h"

namespace vl2::train {
namespace {

using Half = RowKernels::Half;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Elements worth a thread.
constexpr int64_t kGrain = 16384;
// Rows whose gradients of weights are summed together before they are added up in order: the sum then is the same for
// any number of threads.
constexpr int64_t kRowsOfSum = 512;

Half* bits(const at::Tensor& x) { return reinterpret_cast<Half*>(x.data_ptr<at::BFloat16>()); }

template <typename Work>
void in_parallel(int64_t count, int64_t size, const Work& work) {
  at::parallel_for(0, count, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, size)), work);
}

// [rows / kRowsOfSum, width] partial sums, added up.
template <typename Work>
void in_row_blocks(int64_t rows, const Work& work) {
  at::parallel_for(0, (rows + kRowsOfSum - 1) / kRowsOfSum, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) work(b, b * kRowsOfSum, std::min(kRowsOfSum, rows - b * kRowsOfSum));
  });
}
at::Tensor partial_sums(const at::Tensor& x_RD) {
  const int64_t blocks = (x_RD.size(0) + kRowsOfSum - 1) / kRowsOfSum;
  return at::zeros({blocks, x_RD.size(1)}, x_RD.options().dtype(at::kFloat));
}

class Gelu : public Function<Gelu> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x) {
    context->save_for_backward({x});
    at::Tensor y = at::empty_like(x);
    in_parallel(x.numel(), 1, [&](int64_t begin, int64_t end) {
      row_kernels().gelu_tanh(bits(x) + begin, bits(y) + begin, end - begin);
    });
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const at::Tensor x = context->get_saved_variables()[0], dy = grads[0].contiguous();
    at::Tensor dx = at::empty_like(x);
    in_parallel(x.numel(), 1, [&](int64_t begin, int64_t end) {
      row_kernels().gelu_tanh_backward(bits(x) + begin, bits(dy) + begin, bits(dx) + begin, end - begin);
    });
    return {dx};
  }
};

class SiluMul : public Function<SiluMul> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up) {
    context->save_for_backward({gate, up});
    at::Tensor y = at::empty_like(gate);
    in_parallel(gate.numel(), 1, [&](int64_t begin, int64_t end) {
      row_kernels().silu_mul(bits(gate) + begin, bits(up) + begin, bits(y) + begin, end - begin);
    });
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1], dy = grads[0].contiguous();
    at::Tensor dgate = at::empty_like(gate), dup = at::empty_like(up);
    in_parallel(gate.numel(), 1, [&](int64_t begin, int64_t end) {
      row_kernels().silu_mul_backward(bits(gate) + begin, bits(up) + begin, bits(dy) + begin, bits(dgate) + begin,
                                      bits(dup) + begin, end - begin);
    });
    return {dgate, dup};
  }
};

class Softmax : public Function<Softmax> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x) {
    at::Tensor y = at::empty_like(x);
    const int64_t width = x.size(-1);
    in_parallel(x.numel() / width, width, [&](int64_t begin, int64_t end) {
      row_kernels().softmax(bits(x) + begin * width, bits(y) + begin * width, end - begin, width);
    });
    context->save_for_backward({y});
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const at::Tensor y = context->get_saved_variables()[0], dy = grads[0].contiguous();
    at::Tensor dx = at::empty_like(y);
    const int64_t width = y.size(-1);
    in_parallel(y.numel() / width, width, [&](int64_t begin, int64_t end) {
      const int64_t at = begin * width;
      row_kernels().softmax_backward(bits(y) + at, bits(dy) + at, bits(dx) + at, end - begin, width);
    });
    return {dx};
  }
};

class FusedRmsNorm : public Function<FusedRmsNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_RD, const at::Tensor& weight, double eps) {
    const int64_t rows = x_RD.size(0), width = x_RD.size(1);
    at::Tensor y_RD = at::empty_like(x_RD), scale_R = at::empty({rows}, x_RD.options().dtype(at::kFloat));
    in_parallel(rows, width, [&](int64_t begin, int64_t end) {
      row_kernels().rms_norm(bits(x_RD) + begin * width, bits(weight), bits(y_RD) + begin * width,
                             scale_R.data_ptr<float>() + begin, end - begin, width, static_cast<float>(eps));
    });
    context->save_for_backward({x_RD, weight, scale_R});
    return y_RD;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x_RD = saved[0], &weight = saved[1], &scale_R = saved[2], dy_RD = grads[0].contiguous();
    const int64_t width = x_RD.size(1);
    at::Tensor dx_RD = at::empty_like(x_RD), sums = partial_sums(x_RD);
    in_row_blocks(x_RD.size(0), [&](int64_t block, int64_t first, int64_t count) {
      row_kernels().rms_norm_backward(bits(x_RD) + first * width, bits(weight), scale_R.data_ptr<float>() + first,
                                      bits(dy_RD) + first * width, bits(dx_RD) + first * width,
                                      sums.data_ptr<float>() + block * width, count, width);
    });
    return {dx_RD, sums.sum(0).to(weight.scalar_type()), at::Tensor()};
  }
};

class LayerNorm : public Function<LayerNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_RD, const at::Tensor& weight,
                            const at::Tensor& bias, double eps) {
    const int64_t rows = x_RD.size(0), width = x_RD.size(1);
    at::Tensor y_RD = at::empty_like(x_RD), mean_R = at::empty({rows}, x_RD.options().dtype(at::kFloat));
    at::Tensor scale_R = at::empty_like(mean_R);
    in_parallel(rows, width, [&](int64_t begin, int64_t end) {
      row_kernels().layer_norm(bits(x_RD) + begin * width, bits(weight), bits(bias), bits(y_RD) + begin * width,
                               mean_R.data_ptr<float>() + begin, scale_R.data_ptr<float>() + begin, end - begin, width,
                               static_cast<float>(eps));
    });
    context->save_for_backward({x_RD, weight, mean_R, scale_R});
    return y_RD;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x_RD = saved[0], &weight = saved[1], &mean_R = saved[2], &scale_R = saved[3];
    const at::Tensor dy_RD = grads[0].contiguous();
    const int64_t width = x_RD.size(1);
    at::Tensor dx_RD = at::empty_like(x_RD), weight_sums = partial_sums(x_RD), bias_sums = at::zeros_like(weight_sums);
    in_row_blocks(x_RD.size(0), [&](int64_t block, int64_t first, int64_t count) {
      row_kernels().layer_norm_backward(bits(x_RD) + first * width, bits(weight), mean_R.data_ptr<float>() + first,
                                        scale_R.data_ptr<float>() + first, bits(dy_RD) + first * width,
                                        bits(dx_RD) + first * width, weight_sums.data_ptr<float>() + block * width,
                                        bias_sums.data_ptr<float>() + block * width, count, width);
    });
    const auto type = weight.scalar_type();
    return {dx_RD, weight_sums.sum(0).to(type), bias_sums.sum(0).to(type), at::Tensor()};
  }
};

}  // namespace

bool fusable(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kBFloat16 && x.is_contiguous() && x.numel() > 0;
}

at::Tensor gelu_tanh(const at::Tensor& x) { return fusable(x) ? Gelu::apply(x) : at::gelu(x, "tanh"); }

at::Tensor silu_mul(const at::Tensor& gate, const at::Tensor& up) {
  return fusable(gate) && fusable(up) ? SiluMul::apply(gate, up) : at::silu(gate) * up;
}

at::Tensor fused_layer_norm(const at::Tensor& x_RD, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  if (fusable(x_RD) && x_RD.dim() == 2) return LayerNorm::apply(x_RD, weight, bias, eps);
  return at::layer_norm(x_RD, {x_RD.size(-1)}, weight, bias, eps);
}

at::Tensor fused_softmax(const at::Tensor& scores) { return Softmax::apply(scores); }

at::Tensor fused_rms_norm(const at::Tensor& x_RD, const at::Tensor& weight, double eps) {
  return FusedRmsNorm::apply(x_RD, weight, eps);
}

}  // namespace vl2::train

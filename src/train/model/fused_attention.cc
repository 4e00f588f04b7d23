// T: rows, H: heads of q, G: heads of k and v, K: width of q and k, V: width of v.
#include "train/model/fused_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "train/model/attention_kernels.h"

namespace vl2::train {
namespace {

using Half = AttentionKernels::Half;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Rows from `first` on of a tensor [rows, heads, channels].
HeadRows<Half> rows_of(const at::Tensor& x, int64_t first) {
  return {reinterpret_cast<Half*>(x.data_ptr<at::BFloat16>()) + first * x.stride(0), x.stride(0), x.stride(1)};
}
HeadRows<const Half> read(const at::Tensor& x, int64_t first) {
  const HeadRows<Half> rows = rows_of(x, first);
  return {rows.data, rows.row_stride, rows.head_stride};
}
template <typename T>
HeadRows<T> numbers(const at::Tensor& x_TH, int64_t first) {
  return {x_TH.data_ptr<float>() + first * x_TH.stride(0), x_TH.stride(0), 1};
}

struct Problem {
  std::vector<int64_t> starts;
  double scale = 1;
  bool causal = true;
};

// One sample and group of heads at a time.
template <typename Work>
void for_each_group(const Problem& problem, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const Work& work) {
  const int64_t groups = k.size(1), samples = static_cast<int64_t>(problem.starts.size()) - 1;
  at::parallel_for(0, samples * groups, 1, [&](int64_t begin, int64_t end) {
    thread_local std::vector<float> scratch;
    for (int64_t i = begin; i < end; ++i) {
      const auto sample = static_cast<size_t>(i / groups);
      const int64_t first = problem.starts[sample];
      const AttentionSizes sizes{.length = problem.starts[sample + 1] - first,
                                 .heads_a_group = q.size(1) / groups,
                                 .width = q.size(2),
                                 .value_width = v.size(2),
                                 .scale = static_cast<float>(problem.scale),
                                 .causal = problem.causal};
      if (sizes.length > 0) work(sizes, i % groups, first, scratch);
    }
  });
}

// Rows behind the last sample.
void clear_tail(const at::Tensor& x, const Problem& problem) {
  const int64_t end = problem.starts.back();
  if (end < x.size(0)) x.narrow(0, end, x.size(0) - end).zero_();
}

void attend_rows(const Problem& problem, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const at::Tensor& out, const at::Tensor& lse) {
  for_each_group(problem, q, k, v,
                 [&](const AttentionSizes& sizes, int64_t group, int64_t first, std::vector<float>& scratch) {
                   attention_kernels().forward(sizes, group,
                                               {.q = read(q, first),
                                                .k = read(k, first),
                                                .v = read(v, first),
                                                .out = rows_of(out, first),
                                                .lse = numbers<float>(lse, first)},
                                               scratch);
                 });
  clear_tail(out, problem);
}

void attend_rows_backward(const Problem& problem, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const at::Tensor& out, const at::Tensor& lse, const at::Tensor& dout, const at::Tensor& dq,
                          const at::Tensor& dk, const at::Tensor& dv) {
  for_each_group(problem, q, k, v,
                 [&](const AttentionSizes& sizes, int64_t group, int64_t first, std::vector<float>& scratch) {
                   attention_kernels().backward(sizes, group,
                                                {.q = read(q, first),
                                                 .k = read(k, first),
                                                 .v = read(v, first),
                                                 .out = read(out, first),
                                                 .dout = read(dout, first),
                                                 .lse = numbers<const float>(lse, first),
                                                 .dq = rows_of(dq, first),
                                                 .dk = rows_of(dk, first),
                                                 .dv = rows_of(dv, first)},
                                                scratch);
                 });
  for (const at::Tensor* x : {&dq, &dk, &dv}) clear_tail(*x, problem);
}

at::Tensor with_contiguous_channels(const at::Tensor& x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

void keep(AutogradContext* context, const Problem& problem) {
  context->saved_data["starts"] = problem.starts;
  context->saved_data["scale"] = problem.scale;
}
Problem kept(AutogradContext* context, bool causal) {
  return {context->saved_data["starts"].toIntVector(), context->saved_data["scale"].toDouble(), causal};
}

class CausalAttention : public Function<CausalAttention> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q_in, const at::Tensor& k_in,
                            const at::Tensor& v_in, const Problem& problem) {
    const at::Tensor q = with_contiguous_channels(q_in), k = with_contiguous_channels(k_in),
                     v = with_contiguous_channels(v_in);
    const at::Tensor out_THV = at::empty({q.size(0), q.size(1), v.size(2)}, q.options());
    const at::Tensor lse_TH = at::empty({q.size(0), q.size(1)}, q.options().dtype(at::kFloat));
    attend_rows(problem, q, k, v, out_THV, lse_TH);
    context->save_for_backward({q, k, v, out_THV, lse_TH});
    keep(context, problem);
    return out_THV.view({q.size(0), -1});
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3];
    const auto like = [](const at::Tensor& x) { return at::empty(x.sizes(), x.options()); };
    const at::Tensor dq = like(q), dk = like(k), dv = like(v);
    attend_rows_backward(kept(context, true), q, k, v, out, saved[4], grads[0].contiguous().view_as(out), dq, dk, dv);
    return {dq, dk, dv, at::Tensor()};
  }
};

class PackedAttention : public Function<PackedAttention> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv_in, const Problem& problem) {
    const at::Tensor qkv = qkv_in.contiguous();
    const at::Tensor out_THV = at::empty({qkv.size(0), qkv.size(2), qkv.size(3)}, qkv.options());
    const at::Tensor lse_TH = at::empty({qkv.size(0), qkv.size(2)}, qkv.options().dtype(at::kFloat));
    attend_rows(problem, qkv.select(1, 0), qkv.select(1, 1), qkv.select(1, 2), out_THV, lse_TH);
    context->save_for_backward({qkv, out_THV, lse_TH});
    keep(context, problem);
    return out_THV.view({qkv.size(0), -1});
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &qkv = saved[0], &out = saved[1];
    const at::Tensor d = at::empty(qkv.sizes(), qkv.options());
    attend_rows_backward(kept(context, false), qkv.select(1, 0), qkv.select(1, 1), qkv.select(1, 2), out, saved[2],
                         grads[0].contiguous().view_as(out), d.select(1, 0), d.select(1, 1), d.select(1, 2));
    return {d, at::Tensor()};
  }
};

}  // namespace

at::Tensor fused_causal_attention(const at::Tensor& q_THK, const at::Tensor& k_TGK, const at::Tensor& v_TGV,
                                  const std::vector<int64_t>& starts, double scale) {
  return CausalAttention::apply(q_THK, k_TGK, v_TGV, Problem{starts, scale, true});
}

at::Tensor fused_attention(const at::Tensor& qkv_T3HK, int64_t length, double scale) {
  std::vector<int64_t> starts;
  for (int64_t at = 0; at <= qkv_T3HK.size(0); at += length) starts.push_back(at);
  return PackedAttention::apply(qkv_T3HK, Problem{std::move(starts), scale, false});
}

}  // namespace vl2::train

#include "train/model/fused_ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <vector>

#include "train/model/row_kernels.h"
#include "train/model/tensor_ops.h"
#include "train/model/test_batches.h"

namespace vl2::train {
namespace {

// Half a unit in the last place of bf16, relative.
constexpr double kRounding = 1.0 / 256;

using Op = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

at::Tensor random(at::IntArrayRef shape, uint64_t seed, double scale = 2.0) {
  at::manual_seed(seed);
  return at::randn(shape).mul_(scale).to(at::kBFloat16);
}

// The bf16 op against the float32 one on the same values: outputs and every gradient, each within a few roundings of
// its own size.
void expect_same(const Op& fused, const Op& plain, const std::vector<at::Tensor>& inputs, double roundings) {
  std::vector<at::Tensor> half, wide;
  for (const at::Tensor& x : inputs) {
    half.push_back(x.clone().requires_grad_(true));
    wide.push_back(x.to(at::kFloat).requires_grad_(true));
  }
  const at::Tensor y = fused(half), expected = plain(wide);
  ASSERT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_LT(relative_distance(y, expected), roundings * kRounding);
  const at::Tensor dy = random(y.sizes(), 99, 1.0);
  y.backward(dy);
  expected.backward(dy.to(at::kFloat));
  for (size_t i = 0; i < inputs.size(); ++i)
    EXPECT_LT(relative_distance(half[i].grad(), wide[i].grad()), roundings * kRounding) << "input " << i;
}

TEST(FusedOps, GeluAndItsGradient) {
  for (const int64_t n : {1, 15, 16, 17, 1000, 40000})
    expect_same([](const auto& x) { return gelu_tanh(x[0]); }, [](const auto& x) { return at::gelu(x[0], "tanh"); },
                {random({n}, 1, 3.0)}, 1);
}

TEST(FusedOps, GeluOfLargeValuesIsTheirsOrZero) {
  const at::Tensor x = at::tensor(std::vector<float>{-1e4f, -50.0f, 0.0f, 50.0f, 1e4f}).to(at::kBFloat16);
  const at::Tensor y = gelu_tanh(x).to(at::kFloat);
  EXPECT_TRUE(at::equal(y, at::gelu(x.to(at::kFloat), "tanh"))) << y;
}

TEST(FusedOps, SiluTimesUpAndBothGradients) {
  for (const int64_t n : {1, 33, 5000})
    expect_same([](const auto& x) { return silu_mul(x[0], x[1]); }, [](const auto& x) { return at::silu(x[0]) * x[1]; },
                {random({n}, 1, 3.0), random({n}, 2)}, 1);
}

TEST(FusedOps, SoftmaxAndItsGradient) {
  for (const auto& [rows, width] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 16}, {5, 225}, {700, 31}})
    expect_same([](const auto& x) { return fused_softmax(x[0]); }, [](const auto& x) { return x[0].softmax(-1); },
                {random({rows, width}, 1)}, 2);
}

TEST(FusedOps, SoftmaxGivesNothingToWhatIsHidden) {
  at::Tensor x = random({4, 40}, 1);
  x.narrow(1, 10, 30).fill_(-std::numeric_limits<float>::infinity());
  const at::Tensor y = fused_softmax(x).to(at::kFloat);
  EXPECT_EQ(y.narrow(1, 10, 30).abs().max().item<float>(), 0.0f);
  EXPECT_LT((y.sum(1) - 1).abs().max().item<double>(), 10 * kRounding);
}

TEST(FusedOps, RmsNormAndItsGradients) {
  for (const auto& [rows, width] : std::vector<std::pair<int64_t, int64_t>>{{1, 5}, {30, 64}, {1100, 72}})
    expect_same([](const auto& x) { return fused_rms_norm(x[0], x[1], 1e-6); },
                [](const auto& x) { return rms_norm(x[0], x[1], 1e-6); },
                {random({rows, width}, 1), random({width}, 2)}, 2);
}

TEST(FusedOps, LayerNormAndItsGradients) {
  for (const auto& [rows, width] : std::vector<std::pair<int64_t, int64_t>>{{1, 5}, {30, 64}, {1100, 72}})
    expect_same([](const auto& x) { return fused_layer_norm(x[0], x[1], x[2], 1e-6); },
                [](const auto& x) { return at::layer_norm(x[0], {x[0].size(1)}, x[1], x[2], 1e-6); },
                {random({rows, width}, 1), random({width}, 2), random({width}, 3)}, 2);
}

TEST(RowKernels, EveryInstructionSetComputesTheSame) {
  const int64_t n = 1003;
  const at::Tensor x = random({n}, 1, 3.0), up = random({n}, 2), dy = random({n}, 3);
  const auto bits = [](const at::Tensor& t) { return reinterpret_cast<uint16_t*>(t.data_ptr<at::BFloat16>()); };
  at::Tensor expected[4];
  for (int which = 0; which < num_row_kernels(); ++which) {
    const RowKernels& k = row_kernels(which);
    at::Tensor results[4];
    for (at::Tensor& r : results) r = at::empty_like(x);
    k.gelu_tanh(bits(x), bits(results[0]), n);
    k.silu_mul(bits(x), bits(up), bits(results[1]), n);
    k.softmax(bits(x), bits(results[2]), 17, 59);
    k.softmax_backward(bits(results[2]), bits(dy), bits(results[3]), 17, 59);
    for (int i = 0; i < 4; ++i) {
      if (which == 0) expected[i] = results[i].clone();
      // With fused products the last bit may differ.
      EXPECT_LT(relative_distance(results[i], expected[i]), kRounding) << which << " " << i;
    }
  }
}

TEST(FusedOps, GradientsOfWeightsDoNotDependOnTheNumberOfThreads) {
  const int before = at::get_num_threads();
  std::vector<at::Tensor> gradients;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    const at::Tensor x = random({3000, 48}, 1);
    const at::Tensor weight = random({48}, 2).requires_grad_(true), bias = random({48}, 3).requires_grad_(true);
    fused_layer_norm(x, weight, bias, 1e-6).to(at::kFloat).sum().backward();
    gradients.push_back(weight.grad().clone());
  }
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(gradients[0], gradients[1]));
  EXPECT_TRUE(at::equal(gradients[0], gradients[2]));
}

}  // namespace
}  // namespace vl2::train

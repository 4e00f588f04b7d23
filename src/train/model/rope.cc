// T: rows, H: heads, R: rotated channels.
#include "train/model/rope.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace vl2::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

double yarn_mscale(double factor, double mscale) { return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

// The channel pair that turns `rotations` times over the original context.
double correction_dim(double rotations, int64_t dim, double theta, int64_t original_positions) {
  return static_cast<double>(dim) * std::log(static_cast<double>(original_positions) / (rotations * 2.0 * M_PI)) /
         (2.0 * std::log(theta));
}

bool is_dynamic(const LanguageConfig& config, int64_t length) {
  return config.rope_scaling && config.rope_scaling->type == RopeScalingType::kDynamic &&
         length > config.max_position_embeddings;
}

// `length`: keys of the sample, which moves the base of dynamic scaling.
std::vector<double> frequencies(const LanguageConfig& config, int64_t length) {
  const int64_t dim = rotary_dim(config);
  const auto& scaling = config.rope_scaling;
  double theta = config.rope_theta;
  if (is_dynamic(config, length)) {
    const auto d = static_cast<double>(dim);
    const double ratio = static_cast<double>(length) / static_cast<double>(config.max_position_embeddings);
    theta *= std::pow(scaling->factor * ratio - (scaling->factor - 1.0), d / (d - 2.0));
  }
  std::vector<double> result(static_cast<size_t>(dim / 2));
  for (size_t k = 0; k < result.size(); ++k)
    result[k] = std::pow(theta, -2.0 * static_cast<double>(k) / static_cast<double>(dim));
  if (!scaling) return result;
  if (scaling->type == RopeScalingType::kLinear) {
    for (double& f : result) f /= scaling->factor;
  } else if (scaling->type == RopeScalingType::kYarn) {
    const auto last = static_cast<double>(dim - 1);
    const int64_t original = scaling->original_max_position_embeddings;
    const double low = std::max(0.0, std::floor(correction_dim(scaling->beta_fast, dim, theta, original)));
    double high = std::min(last, std::ceil(correction_dim(scaling->beta_slow, dim, theta, original)));
    if (high == low) high += 0.001;
    for (size_t k = 0; k < result.size(); ++k) {
      const double ramp = std::clamp((static_cast<double>(k) - low) / (high - low), 0.0, 1.0);
      result[k] = result[k] / scaling->factor * ramp + result[k] * (1.0 - ramp);
    }
  }
  return result;
}

at::Tensor rotate(const at::Tensor& x_THR, const at::Tensor& cos_T1K, const at::Tensor& sin_T1K, bool interleaved) {
  const int64_t half = x_THR.size(-1) / 2;
  const at::Tensor x32 = x_THR.to(at::kFloat);
  const at::Tensor a = interleaved ? x32.slice(-1, 0, 2 * half, 2) : x32.narrow(-1, 0, half);
  const at::Tensor b = interleaved ? x32.slice(-1, 1, 2 * half, 2) : x32.narrow(-1, half, half);
  at::Tensor result = at::empty_like(x_THR, at::MemoryFormat::Contiguous);
  result.narrow(-1, 0, half).copy_(a.mul(cos_T1K).sub_(b.mul(sin_T1K)));
  result.narrow(-1, half, half).copy_(b.mul(cos_T1K).add_(a.mul(sin_T1K)));
  return result;
}

// A rotation's gradient is the rotation back.
class Rope : public torch::autograd::Function<Rope> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_THR, const at::Tensor& cos_T1K,
                            const at::Tensor& sin_T1K, bool interleaved) {
    context->save_for_backward({cos_T1K, sin_T1K});
    context->saved_data["interleaved"] = interleaved;
    return rotate(x_THR, cos_T1K, sin_T1K, interleaved);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    at::Tensor grad_THR = rotate(grads[0], saved[0], saved[1].neg(), false);
    if (context->saved_data["interleaved"].toBool()) {
      const int64_t half = grad_THR.size(-1) / 2;
      grad_THR = at::stack({grad_THR.narrow(-1, 0, half), grad_THR.narrow(-1, half, half)}, -1).flatten(-2);
    }
    return {grad_THR, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

int64_t rotary_dim(const LanguageConfig& c) { return c.use_mla ? c.qk_rope_head_dim : c.qk_head_dim(); }

RotaryEmbedding rotary_embedding(const LanguageConfig& config, std::span<const int32_t> positions,
                                 std::span<const int64_t> sample_starts, int64_t rows, at::Device device) {
  RotaryEmbedding rotary;
  double magnitude = 1.0;
  if (const auto& scaling = config.rope_scaling) {
    if (scaling->type == RopeScalingType::kYarn)
      magnitude = yarn_mscale(scaling->factor, scaling->mscale) / yarn_mscale(scaling->factor, scaling->mscale_all_dim);
    // The official code asks only whether mscale_all_dim is set, whatever the type of scaling.
    if (scaling->mscale_all_dim != 0.0)
      rotary.softmax_scale_factor = std::pow(yarn_mscale(scaling->factor, scaling->mscale_all_dim), 2);
  }
  const std::vector<double> plain = frequencies(config, 0);
  const auto half = static_cast<int64_t>(plain.size());
  rotary.cos_TR = at::ones({rows, half}, at::kFloat);
  rotary.sin_TR = at::zeros({rows, half}, at::kFloat);
  auto* cos = rotary.cos_TR.data_ptr<float>();
  auto* sin = rotary.sin_TR.data_ptr<float>();
  // Most samples start at the same positions: those rows are copied from the first that had them.
  std::vector<int64_t> row_of_position;
  for (size_t i = 0; i + 1 < sample_starts.size(); ++i) {
    const auto sample = positions.subspan(static_cast<size_t>(sample_starts[i]),
                                          static_cast<size_t>(sample_starts[i + 1] - sample_starts[i]));
    const int64_t length = sample.empty() ? 0 : *std::max_element(sample.begin(), sample.end()) + 1;
    const bool moved = is_dynamic(config, length);
    const std::vector<double> own = moved ? frequencies(config, length) : std::vector<double>();
    for (int64_t t = sample_starts[i]; t < sample_starts[i + 1]; ++t) {
      const auto position = static_cast<size_t>(positions[static_cast<size_t>(t)]);
      if (!moved) {
        if (position >= row_of_position.size()) row_of_position.resize(position + 1, -1);
        if (const int64_t from = row_of_position[position]; from >= 0) {
          std::copy_n(cos + from * half, half, cos + t * half);
          std::copy_n(sin + from * half, half, sin + t * half);
          continue;
        }
        row_of_position[position] = t;
      }
      const std::vector<double>& f = moved ? own : plain;
      for (int64_t k = 0; k < half; ++k) {
        const double angle = static_cast<double>(position) * f[static_cast<size_t>(k)];
        cos[t * half + k] = static_cast<float>(std::cos(angle) * magnitude);
        sin[t * half + k] = static_cast<float>(std::sin(angle) * magnitude);
      }
    }
  }
  rotary.cos_TR = rotary.cos_TR.to(device);
  rotary.sin_TR = rotary.sin_TR.to(device);
  return rotary;
}

at::Tensor rope(const at::Tensor& x_THR, const RotaryEmbedding& rotary, RopeLayout layout) {
  return Rope::apply(x_THR, rotary.cos_TR.unsqueeze(1), rotary.sin_TR.unsqueeze(1), layout == RopeLayout::kInterleaved);
}

}  // namespace vl2::train

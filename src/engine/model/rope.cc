#include "engine/model/rope.h"

#include <algorithm>
#include <cmath>

namespace vl2 {
namespace {

double yarn_mscale(double factor, double mscale) { return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

// The channel pair that turns `rotations` times over the original context.
double correction_dim(double rotations, int64_t dim, double theta, int64_t original_positions) {
  return static_cast<double>(dim) * std::log(static_cast<double>(original_positions) / (rotations * 2.0 * M_PI)) /
         (2.0 * std::log(theta));
}

}  // namespace

RopeAngles::RopeAngles(const LanguageConfig& config, int64_t dim)
    : theta_(config.rope_theta),
      dim_(dim),
      max_positions_(config.max_position_embeddings),
      scaling_(config.rope_scaling) {
  frequencies_ = frequencies(0);
  if (scaling_ && scaling_->type == RopeScalingType::kYarn) {
    magnitude_ =
        yarn_mscale(scaling_->factor, scaling_->mscale) / yarn_mscale(scaling_->factor, scaling_->mscale_all_dim);
  }
  // The official code asks only whether mscale_all_dim is set, whatever the type of scaling.
  if (scaling_ && scaling_->mscale_all_dim != 0.0)
    softmax_scale_factor_ = std::pow(yarn_mscale(scaling_->factor, scaling_->mscale_all_dim), 2);
}

std::vector<double> RopeAngles::frequencies(int64_t length) const {
  double theta = theta_;
  if (scaling_ && scaling_->type == RopeScalingType::kDynamic && length > max_positions_) {
    const auto d = static_cast<double>(dim_);
    const double ratio = static_cast<double>(length) / static_cast<double>(max_positions_);
    theta *= std::pow(scaling_->factor * ratio - (scaling_->factor - 1.0), d / (d - 2.0));
  }
  std::vector<double> result(static_cast<size_t>(dim_ / 2));
  for (size_t k = 0; k < result.size(); ++k)
    result[k] = std::pow(theta, -2.0 * static_cast<double>(k) / static_cast<double>(dim_));
  if (!scaling_) return result;
  if (scaling_->type == RopeScalingType::kLinear) {
    for (double& f : result) f /= scaling_->factor;
  } else if (scaling_->type == RopeScalingType::kYarn) {
    const auto last = static_cast<double>(dim_ - 1);
    const int64_t original = scaling_->original_max_position_embeddings;
    const double low = std::max(0.0, std::floor(correction_dim(scaling_->beta_fast, dim_, theta_, original)));
    double high = std::min(last, std::ceil(correction_dim(scaling_->beta_slow, dim_, theta_, original)));
    if (high == low) high += 0.001;
    for (size_t k = 0; k < result.size(); ++k) {
      const double ramp = std::clamp((static_cast<double>(k) - low) / (high - low), 0.0, 1.0);
      result[k] = result[k] / scaling_->factor * ramp + result[k] * (1.0 - ramp);
    }
  }
  return result;
}

void RopeAngles::fill(std::span<const int64_t> positions, int64_t length, Tensor cos_TR, Tensor sin_TR) const {
  const auto half = static_cast<int64_t>(frequencies_.size());
  const auto angles_of = [&](int64_t position, const std::vector<double>& f, float* cos, float* sin) {
    for (size_t k = 0; k < f.size(); ++k) {
      const double angle = static_cast<double>(position) * f[k];
      cos[k] = static_cast<float>(std::cos(angle) * magnitude_);
      sin[k] = static_cast<float>(std::sin(angle) * magnitude_);
    }
  };
  if (scaling_ && scaling_->type == RopeScalingType::kDynamic && length > max_positions_) {
    const std::vector<double> moved = frequencies(length);
    for (size_t t = 0; t < positions.size(); ++t)
      angles_of(positions[t], moved, cos_TR.row(static_cast<int64_t>(t)), sin_TR.row(static_cast<int64_t>(t)));
    return;
  }
  // A prompt of thousands of tokens would take milliseconds every time.
  const std::lock_guard<std::mutex> lock(known_->mutex);
  std::vector<float>& known = known_->values;
  const int64_t row = 2 * half, wanted = positions.empty() ? 0 : *std::ranges::max_element(positions) + 1;
  int64_t count = row == 0 ? wanted : static_cast<int64_t>(known.size()) / row;
  known.resize(static_cast<size_t>(std::max(count, wanted) * row));
  for (; count < wanted; ++count)
    angles_of(count, frequencies_, known.data() + count * row, known.data() + count * row + half);
  for (size_t t = 0; t < positions.size(); ++t) {
    const float* from = known.data() + positions[t] * row;
    std::copy_n(from, half, cos_TR.row(static_cast<int64_t>(t)));
    std::copy_n(from + half, half, sin_TR.row(static_cast<int64_t>(t)));
  }
}

}  // namespace vl2

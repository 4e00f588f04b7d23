// Rotary position angles, in double until the final rounding to float32 (never in the weights' type).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "core/model_spec/model_config.h"
#include "engine/ops/tensor.h"

namespace vl2 {

class RopeAngles {
 public:
  // dim: number of rotated channels of a head.
  RopeAngles(const LanguageConfig& config, int64_t dim);

  // cos_TR and sin_TR [T, dim / 2], on the host, of each row's position. `length`: keys in the cache after this step,
  // which moves the base of dynamic scaling (golden quirk 22).
  void fill(std::span<const int64_t> positions, int64_t length, Tensor cos_TR, Tensor sin_TR) const;

  // What yarn multiplies the softmax scale by; 1 otherwise (golden quirk 12).
  double softmax_scale_factor() const { return softmax_scale_factor_; }

 private:
  std::vector<double> frequencies(int64_t length) const;

  double theta_;
  int64_t dim_;
  int64_t max_positions_;
  std::optional<RopeScaling> scaling_;
  std::vector<double> frequencies_;
  double magnitude_ = 1.0;  // on cos and sin
  // Of the positions asked for so far, where length moves nothing: [position][cos of dim / 2, sin of dim / 2].
  struct Known {
    std::mutex mutex;
    std::vector<float> values;
  };
  std::shared_ptr<Known> known_ = std::make_shared<Known>();
  double softmax_scale_factor_ = 1.0;
};

}  // namespace vl2

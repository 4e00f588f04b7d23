// AdamW with decoupled weight decay (spec training 2), learning rates by group, and moments in float32 or, rounded
// stochastically, in bf16.
//
//   m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g^2
//   w = w - lr k (m' / (sqrt(v') + eps) + decay w)      m', v': without the bias of their start; k: the group's
//   multiplier
//
// Parameters marked so have Muon's update instead, whose size is that of Adam's, so that one learning rate serves both:
//
//   m = b m + (1 - b) g      w = w - lr k (0.2 sqrt(max(R, C)) orthogonalise((1 - b) g + b m) + decay w)      b = 0.95
//
// Updates masters in place, from the gradients they hold. Everything it does follows from the weights, the gradients
// and the number of the step, so that a run goes on from a checkpoint bit by bit. Device of the masters. One thread
// drives it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace vl2::train {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  bool bf16_moments = false;
  at::ScalarType orthogonal_compute = at::kBFloat16;
  uint64_t seed = 0;    // of stochastic rounding
  int64_t workers = 1;  // parameters updated at once; changes nothing but speed
  // Many parameters by one operation, and matrices of one shape by one batched product: few, large operations, for a
  // GPU. The same formulas; not with bf16_moments.
  bool together = false;
};

struct OptimizedParameter {
  std::string name;
  at::Tensor value;  // a float32 leaf
  double lr_multiplier = 1.0;
  bool decay = true;
  bool orthogonal = false;  // [..., R, C]: Muon
};

// A tensor of the optimiser's state, to be stored and filled again.
struct NamedState {
  std::string name;  // "m." or "v." and the parameter's
  at::Tensor value;
};

class AdamW {
 public:
  AdamW(std::vector<OptimizedParameter> parameters, const AdamWOptions& options);

  // L2 norm of all gradients together; those that are undefined count as zero. Not finite if any value is not.
  double gradient_norm() const;
  // Every gradient times `scale`, for clipping.
  void scale_gradients(double scale);
  // One step with the gradients that are there; a parameter without one keeps its value and moments.
  void step(double learning_rate);

  int64_t steps() const { return steps_; }
  const std::vector<OptimizedParameter>& parameters() const { return parameters_; }
  // Views of the moments; values written into them count.
  std::vector<NamedState> state() const;
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  void update(size_t index, double learning_rate);
  void update_orthogonal(size_t index, double learning_rate);
  void update_together(double learning_rate);

  std::vector<OptimizedParameter> parameters_;
  AdamWOptions options_;
  std::vector<at::Tensor> m_, v_;  // v: undefined where the update is orthogonal
  int64_t steps_ = 0;
};

// What x becomes in bf16 when it is rounded up with the probability of what is cut off: right in the mean, where
// rounding to nearest would swallow small steps. The random bits are those of (seed, stream), whatever the device.
at::Tensor round_stochastically(const at::Tensor& x, uint64_t seed, uint64_t stream);

}  // namespace vl2::train

// Where a model's tensors come from while it is being built: a checkpoint folder, or random numbers for benchmarks.
#pragma once

#include <string>
#include <vector>

#include "core/base/tensor_view.h"
#include "core/checkpoint/checkpoint.h"

namespace vl2 {

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // The view is valid until the next call. kNotFound or kCorrupt when the checkpoint does not have this shape under
  // this name.
  virtual TensorView get(const std::string& name, const Shape& shape) = 0;
  // The tensor has been packed: its stored bytes need not stay in memory.
  virtual void done(const TensorView& tensor) { (void)tensor; }
};

class CheckpointSource : public WeightSource {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  TensorView get(const std::string& name, const Shape& shape) override;
  void done(const TensorView& tensor) override { checkpoint_.release(tensor); }

 private:
  const Checkpoint& checkpoint_;
};

// Seeded bf16 values of the scale training starts from; the same name gives the same tensor.
class RandomSource : public WeightSource {
 public:
  explicit RandomSource(uint64_t seed) : seed_(seed) {}
  TensorView get(const std::string& name, const Shape& shape) override;

 private:
  uint64_t seed_;
  std::vector<BF16> pool_;    // random values, read from a place that depends on the name
  std::vector<BF16> buffer_;  // the current tensor
};

}  // namespace vl2

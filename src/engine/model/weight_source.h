// Where a model's tensors come from while it is being built: a checkpoint folder, or random numbers for benchmarks.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/tensor_view.h"
#include "core/checkpoint/checkpoint.h"
#include "engine/ops/weight.h"

namespace vl2 {

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // The view is valid until the next call. kNotFound or kCorrupt when the checkpoint does not have this shape under
  // this name.
  virtual TensorView get(const std::string& name, const Shape& shape) = 0;
  // The same matrix [rows, cols], where it is stored in panels; empty: get() has it. `name` is that of get().
  virtual std::optional<PanelMatrix> panels(const std::string& name, int64_t rows, int64_t cols) {
    (void)name, (void)rows, (void)cols;
    return std::nullopt;
  }
  virtual std::optional<LatentPanels> latent_panels(const std::string& name, int64_t heads, int64_t qk_nope, int64_t v,
                                                    int64_t rank) {
    (void)name, (void)heads, (void)qk_nope, (void)v, (void)rank;
    return std::nullopt;
  }
  // Keeps what was handed out alive for as long as somebody reads it; empty: views are valid until the next call.
  virtual std::shared_ptr<const void> owner() const { return nullptr; }
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

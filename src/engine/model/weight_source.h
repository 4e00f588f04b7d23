// Where a model's tensors come from while it is being built: a checkpoint folder, one with an adapter, or random
// numbers for benchmarks.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/tensor_view.h"
#include "core/base/thread_pool.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/lora.h"
#include "core/model_spec/format_plan.h"
#include "engine/ops/weight.h"

namespace vl2 {

// Panels and who keeps them alive.
struct StoredMatrix {
  PanelMatrix matrix;
  std::shared_ptr<const void> owner;
};
struct StoredLatent {
  LatentPanels parts;
  std::shared_ptr<const void> owner;
};
struct LatentShape {
  int64_t heads = 0, qk_nope = 0, v = 0, rank = 0;
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // The view is valid until the next call. kNotFound or kCorrupt when the checkpoint does not have this shape under
  // this name.
  virtual TensorView get(const std::string& name, const Shape& shape) = 0;
  // Keeps what get() hands out alive; empty: its views are valid until the next call.
  virtual std::shared_ptr<const void> owner() const { return nullptr; }
  // The same matrix [rows, cols], or the parts of kv_b, where they are stored in panels; empty: get() has it.
  virtual std::optional<StoredMatrix> panels(const std::string& name, int64_t rows, int64_t cols);
  virtual std::optional<StoredLatent> latent_panels(const std::string& name, const LatentShape& shape);
  // The tensor has been packed: its stored bytes need not stay in memory.
  virtual void done(const TensorView& tensor) { (void)tensor; }
};

class CheckpointSource : public WeightSource {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  TensorView get(const std::string& name, const Shape& shape) override;
  std::shared_ptr<const void> owner() const override { return owner_; }
  std::optional<StoredMatrix> panels(const std::string& name, int64_t rows, int64_t cols) override;
  std::optional<StoredLatent> latent_panels(const std::string& name, const LatentShape& shape) override;
  void done(const TensorView& tensor) override { checkpoint_.release(tensor); }

 private:
  const Checkpoint& checkpoint_;
  std::shared_ptr<const void> owner_;  // of the last tensor
};

// A checkpoint with a LoRA adapter merged in as its tensors are read: bit for bit what `vl2 lora merge` writes.
// Matrices that are stored as panels cannot be merged: whoever opens it refuses quantised models first. Borrows both.
class LoraSource : public WeightSource {
 public:
  LoraSource(const Checkpoint& checkpoint, const LoraAdapter& adapter, int num_threads);
  TensorView get(const std::string& name, const Shape& shape) override;
  std::shared_ptr<const void> owner() const override { return merged_ ? nullptr : stored_.owner(); }
  void done(const TensorView& tensor) override;

 private:
  CheckpointSource stored_;
  const LoraAdapter& adapter_;
  const float scale_;
  ThreadPool pool_;
  bool merged_ = false;            // the last tensor lies in buffer_
  TensorView original_;            // of the last merged tensor
  std::vector<std::byte> buffer_;  // the last merged tensor
};

// Seeded values of the scale training starts from; the same name gives the same tensor. bf16, or with a config the
// panels of a format, made without a search: every code is as likely as any other.
class RandomSource : public WeightSource {
 public:
  explicit RandomSource(uint64_t seed) : seed_(seed) {}
  RandomSource(uint64_t seed, const ModelConfig& config, ModelFormat format);
  TensorView get(const std::string& name, const Shape& shape) override;
  std::optional<StoredMatrix> panels(const std::string& name, int64_t rows, int64_t cols) override;
  std::optional<StoredLatent> latent_panels(const std::string& name, const LatentShape& shape) override;

 private:
  // `count` matrices [rows, cols], one after the other.
  StoredMatrix random_panels(const std::string& name, PanelFormat format, int64_t count, int64_t rows, int64_t cols);
  void fill_pool();

  // Thousands of matrices, few mappings.
  struct Slabs {
    std::shared_ptr<std::byte> take(int64_t bytes);
    std::shared_ptr<std::byte> slab;
    int64_t used = 0;
  };

  uint64_t seed_;
  Slabs slabs_;
  std::map<std::string, PanelFormat> formats_;  // of tensors that are panels
  std::vector<BF16> pool_;                      // random values, read from a place that depends on the name
  std::vector<uint8_t> codes_;
  std::vector<BF16> buffer_;  // the current tensor
};

}  // namespace vl2

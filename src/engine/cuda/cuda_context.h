// What the parts of the CUDA backend share.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "engine/cuda/cuda_weights.h"
#include "engine/cuda/device/device.h"
#include "engine/cuda/kernels/matrix.h"
#include "engine/cuda/kernels/sequences.h"
#include "engine/ops/ops.h"

namespace vl2::cuda {

inline RowsView rows_view(Tensor x) { return {x.data, x.rows, x.heads, x.cols, x.row_stride, x.head_stride}; }

// The tables of a batch in device memory, uploaded when its sequences are not those of the call before: once a step.
class SequenceTables {
 public:
  explicit SequenceTables(Device& device) : device_(device) {}
  // Valid until the next call with other sequences.
  SequencesView view(std::span<const SequenceSlice> sequences);

 private:
  Device& device_;
  std::vector<int32_t> words_;  // as uploaded: sequences, block numbers, rows
  DeviceBuffer memory_;
  SequencesView view_;
};

struct CudaContext {
  Device& device;
  Workspace& workspace;
  SequenceTables& tables;
  bool bf16_compute;

  Stream stream() const { return device.stream(); }
  // Scratch that is given back with the caller's Scope.
  template <typename T>
  T* scratch(int64_t count) const {
    return workspace.array<T>(count).data();
  }
  // A list on the device, given back with the caller's Scope.
  template <typename T>
  T* uploaded(std::span<const T> values) const {
    T* memory = scratch<T>(static_cast<int64_t>(values.size()));
    device.upload(memory, values.data(), values.size_bytes());
    return memory;
  }
};

// out (+)= W x (+ b). The library multiplies many rows, linear_few_rows few.
void linear(const CudaContext& context, Tensor out, Tensor x, const Weight& weight, const Weight& bias, bool add);
void linear_each(const CudaContext& context, std::span<const Tensor> outs, Tensor x, std::span<const Linear* const> ws);
void swiglu(const CudaContext& context, Tensor out, Tensor x, const GatedMlp& mlp);

// The halves of an encoder's block, x += ..., where encoder_is_fused for their two matrices. False: not of these sizes,
// and nothing was done.
bool encoder_is_fused(const CudaContext& context, const Linear& first, const Linear& second);
[[nodiscard]] bool norm_attention_add(const CudaContext& context, Tensor x, const LayerNorm& norm, const Linear& qkv,
                                      const Linear& proj, int64_t heads, int64_t tokens_per_item);
[[nodiscard]] bool norm_mlp_add(const CudaContext& context, Tensor x, const LayerNorm& norm, const Linear& fc1,
                                const Linear& fc2);

void full_attention(const CudaContext& context, Tensor out, Tensor qkv, int64_t heads, int64_t tokens_per_item);
void cached_attention(const CudaContext& context, Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv,
                      std::span<const SequenceSlice> sequences, float scale, Tensor probe);
void latent_attention(const CudaContext& context, Tensor out, Tensor q, Tensor c_kv, Tensor k_pe,
                      const LatentWeights& w, KvLayer kv, std::span<const SequenceSlice> sequences, float scale,
                      Tensor probe);

void choose_ids(const CudaContext& context, std::span<ChosenId> out, Tensor logits, std::span<const ChoiceRule> rules,
                int64_t num_ids);

}  // namespace vl2::cuda

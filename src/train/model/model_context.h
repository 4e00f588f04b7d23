// What every function of the model is handed: weights by name, options, and what one forward pass shares.
//
// Held by value in what recomputation keeps: everything it points to lives as long as the pass or longer.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "train/model/deepseek_vl2.h"
#include "train/model/sequence_layout.h"

namespace vl2::train {

// cos and sin of every row's position.
struct RotaryEmbedding {
  at::Tensor cos_TR, sin_TR;  // [T, rotated channels / 2] float32
  double softmax_scale_factor = 1.0;
};

// Keys and values of the one sequence that is being generated, room for all of it from the start.
struct KvCache {
  std::vector<at::Tensor> k_1LHK, v_1LHV;  // of each layer
  std::vector<at::Tensor> c_MC, pe_MR;     // latents and rotated keys, for rounded latent attention only
  int64_t length = 0;                      // filled
};

// What all layers of one pass read.
struct ForwardState {
  ForwardOptions options;
  at::ScalarType compute = at::kFloat;
  // With float32, generating: rounds to bf16 what the engine rounds (rounded_attention.h, DeepseekVl2::generate).
  bool rounds_factors = false;
  int64_t tokens = 0;  // T; activations may have more rows, which nobody reads (padding for oneDNN)
  int64_t rows = 0;
  // Where fused attention is used: the samples' starts and the end of the last; else empty, and the layout is there.
  std::vector<int64_t> sample_starts;
  SequenceLayout layout;
  RotaryEmbedding rotary;
  at::Tensor row_mean_BT;  // the balance loss's rows: 1 / length at each of its tokens, 0 elsewhere
};

// What layers report, in the order of the MoE layers.
struct ForwardRecord {
  std::vector<int64_t> moe_layers;
  std::vector<at::Tensor> aux_losses;         // [] each
  std::vector<at::Tensor> tokens_per_expert;  // [E] each
};

struct ModelContext {
  const Parameters* parameters = nullptr;
  const Adapters* adapters = nullptr;  // may be null
  std::shared_ptr<const ForwardState> state;
  ForwardRecord* record = nullptr;  // null while a layer is recomputed: it has reported already
  KvCache* cache = nullptr;         // generation only
  // A recomputed layer's own leaves in place of parameters and adapters, by name.
  const std::map<std::string, at::Tensor>* leaves = nullptr;
  std::map<std::string, at::Tensor>* rounded = nullptr;  // generation only: weights in the compute type, made once

  const ModelConfig& config() const { return parameters->config(); }
  const LanguageConfig& language() const { return parameters->config().language; }
  bool traced() const { return record != nullptr && state->options.tap != nullptr; }
  void stage(const std::string& name, const at::Tensor& values) const;

  bool has(const std::string& name) const { return parameters->find(name) != nullptr; }
  at::Tensor master(const std::string& name) const;  // as it is stored
  at::Tensor weight(const std::string& name) const;  // in the compute type
  at::Tensor factor(const at::Tensor& x) const;      // x as it enters a product
  // An expert's matrices of one projection, [E, out, in]; undefined for those mapped from a file, which are listed.
  at::Tensor stacked_experts(const std::string& name) const;
  std::vector<at::Tensor> expert_list(const std::string& name) const;

  // The adapter of a weight; nullptr: none. Tensors in the compute type.
  struct Lora {
    at::Tensor a, b;
    double scale = 1.0, dropout = 0.0;
  };
  bool find_adapter(const std::string& name, Lora& adapter) const;
};

// x W^T + b of "<layer>.weight" and, if there is one, "<layer>.bias", with the adapter of that weight.
at::Tensor linear(const ModelContext& context, const std::string& layer, const at::Tensor& x);

// The adapter's input: x with dropout, the same elements each time within one pass.
at::Tensor adapter_dropout(const ModelContext& context, const std::string& name, double probability,
                           const at::Tensor& x);

at::Tensor layer_norm(const ModelContext& context, const std::string& layer, const at::Tensor& x, double eps);

}  // namespace vl2::train

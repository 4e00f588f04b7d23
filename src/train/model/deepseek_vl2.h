// DeepSeek-VL2 with gradients: the single-device twin of engine/model in libtorch, one definition for every variant.
//
//   DeepseekVl2 model(parameters);
//   ForwardResult result = model.forward(batch, options);
//   result.loss.backward();             // gradients are added to the masters'
//
// Borrows Parameters and Adapters, which must outlive it and every result whose backward() is still to run. One thread.
// libtorch computes with as many threads as at::set_num_threads was told, 1 if it was not.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/processor/multimodal_prompt.h"
#include "train/input/micro_batch.h"
#include "train/model/parameters.h"

namespace vl2::train {

// y = W x + scale * B A dropout(x), for the linear layer of one weight. Any linear of the language model or projector,
// by the weight's name; of a layer's routed experts all at once by Parameter's name with "*".
struct Adapter {
  at::Tensor a;  // [rank, in], or [E, rank, in]
  at::Tensor b;  // [out, rank], or [E, out, rank]
  double scale = 1.0;
  double dropout = 0.0;
};
using Adapters = std::map<std::string, Adapter>;

// Sees stages under the names of the golden files, each once: also with recomputation.
using StageTap = std::function<void(const std::string& name, const at::Tensor& values)>;

struct ForwardOptions {
  DType compute =
      DType::kF32;          // kF32 or kBF16: weights rounded once a forward; norms, softmax, router, loss in float32
  double loss_scale = 1.0;  // 1 / supervised tokens of the global batch makes the gradient that of the mean
  double aux_scale = 1.0;   // share of the global batch's rows that are in this micro-batch
  double aux_loss_alpha = 0.001;
  bool seq_aux = true;                  // balance each of MicroBatch's rows; false: the micro-batch as a whole
  bool aux_gradient = true;             // false: the balance loss is reported and nothing more
  int64_t recompute_vision_blocks = 0;  // the first N keep no activations for backward()
  bool recompute_layers = false;        // no decoder layer does
  bool whole_rows = false;              // attention by whole rows of the batch (row_layout): for a GPU
  bool all_logits = false;              // ForwardResult::logits of every token
  uint64_t dropout_seed = 0;            // another one every micro-batch; only adapters have dropout
  bool dropout = true;                  // false: evaluation
  StageTap tap;
};

struct ForwardResult {
  at::Tensor loss;      // [] float32 with graph: loss_scale * loss_sum, what backward() is called on
  at::Tensor loss_sum;  // [] float64: cross-entropy of the supervised tokens, each predicted within its own sample
  int64_t supervised = 0;
  at::Tensor sample_losses;  // [samples] float64, adds up to loss_sum
  std::vector<int64_t> moe_layers;
  at::Tensor aux_losses;         // [MoE layers] float32: alpha included, aux_scale not
  at::Tensor tokens_per_expert;  // [MoE layers, E] int64
  at::Tensor logits;             // [T, vocab] float32 with ForwardOptions::all_logits, else undefined
};

struct Generation {
  std::vector<int32_t> tokens;  // the end token included, if it came
  std::vector<float> margins;   // of each: largest logit less the second
};

class DeepseekVl2 {
 public:
  explicit DeepseekVl2(const Parameters& parameters, const Adapters* adapters = nullptr);

  const ModelConfig& config() const { return parameters_.config(); }

  // kInvalidArgument: an empty batch, a token id beyond the vocabulary, pictures that do not fill the placeholders.
  // With gradients disabled (c10::NoGradGuard) it is an evaluation and keeps nothing.
  ForwardResult forward(const MicroBatch& batch, const ForwardOptions& options) const;

  // Greedy, until the end token or max_tokens. kBF16 rounds what the engine's bf16 arithmetic rounds (what enters a
  // product, see rounded_attention.h) and nothing else, but for adapters, which the engine merges; forward() rounds all
  // that is between operations, too, as the official code does.
  Generation generate(const MultimodalPrompt& prompt, int64_t max_tokens, DType compute = DType::kF32) const;

 private:
  const Parameters& parameters_;
  const Adapters* adapters_;
};

}  // namespace vl2::train

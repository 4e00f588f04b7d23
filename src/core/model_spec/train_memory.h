// How many bytes training will take, known before any of it is allocated. The trainer prints it first and refuses to
// start without them; whoever plans a run asks the same code.
//
// Weights, gradients and optimiser are exact counts. Activations are what automatic differentiation keeps of one
// micro-batch, counted layer by layer as the equations stand, plus the largest layer's working set; a is the bytes of
// an activation (2 in bf16, 4 in float32), T tokens, P patches of a tile, L the longest sample:
//   encoder block    P (8 W + 2 M) a + heads P^2 a         a tile; W its width, M its MLP's
//   projector        what goes into each layer and its GELU, a tile
//   decoder layer    T (5 H + attention + MLP) a + heads T L a, where
//     attention      q, k, v, their rotated copies and the heads' outputs; latent attention adds its latents
//     MLP            gate, up, their product and its input: of k experts and the shared ones, or of the dense layer
//   logits           T vocabulary (a + 8): the product, its float32 copy and its gradient
// Fused attention keeps the logarithm of a sum (4 bytes a head and row) in place of the scores (L a), and a fused
// SwiGLU no SiLU of the gate. A recomputed block or layer keeps its input alone. Parts before the first one that trains
// keep nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/model_spec/model_config.h"
#include "core/model_spec/weight_schema.h"

namespace vl2 {

struct TrainMemoryInput {
  std::function<bool(const WeightSpec&)> trains;  // unset: every tensor that is used
  bool bf16_compute = true;                       // a bf16 copy of trained weights beside float32 masters
  bool fused = false;                             // attention and SwiGLU are operations of the trainer's own
  bool bf16_moments = false;                      // two moments of 2 bytes, not of 4
  // Bytes of a frozen weight's value: 2 in bf16, mapped from its file or not.
  double frozen_bytes = 2;
  int64_t adapter_parameters = 0;        // LoRA: trained in float32 beside the model
  int64_t tokens = 4096;                 // of a micro-batch, all its sequences
  int64_t longest_sample = 0;            // tokens; 0: all of them
  int64_t tiles = 0;                     // of a micro-batch
  int64_t replicas = 1;                  // micro-batches side by side, each with gradients and activations of its own
  int64_t recomputed_vision_blocks = 0;  // the first N; -1: all
  bool recompute_language = false;
};

struct TrainMemory {
  int64_t trained_parameters = 0, frozen_parameters = 0;
  int64_t weights = 0;      // masters, their bf16 copies, frozen weights, adapters
  int64_t gradients = 0;    // float32
  int64_t optimizer = 0;    // moments
  int64_t activations = 0;  // estimated
  int64_t total() const { return weights + gradients + optimizer + activations; }
};

TrainMemory plan_train_memory(const ModelConfig& config, const TrainMemoryInput& input);

// A few lines for people.
std::string train_memory_text(const TrainMemory& plan);

// kOutOfMemory when the plan needs more than `available` bytes: what for, what there is, what to change.
void check_train_memory(const TrainMemory& plan, int64_t available);

}  // namespace vl2

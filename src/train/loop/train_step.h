// One step of the optimiser: gradients over the micro-batches of a global batch, clipped, applied; expert biases moved.
//
// The loss is the sum over all supervised tokens of the global batch by their number (spec training 2), so that cutting
// the batch into micro-batches changes nothing but rounding. A step whose loss or gradient is not finite changes
// nothing: no weight, no moment, no expert bias.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "train/input/micro_batch.h"
#include "train/loop/replicas.h"
#include "train/model/deepseek_vl2.h"
#include "train/optim/adamw.h"

namespace vl2::train {

struct StepOptions {
  ForwardOptions forward;      // loss_scale, aux_scale and dropout_seed are filled in
  double gradient_clip = 1.0;  // L2 norm of all gradients; 0: no clipping
  double expert_bias_step = 0.0;
};

struct StepResult {
  double loss = 0;           // mean over supervised tokens, without the balance loss
  double aux_loss = 0;       // of all layers, mean over the micro-batches by their rows
  double gradient_norm = 0;  // before clipping
  double max_violation = 0;  // MaxVio of the worst layer; 0 without experts
  int64_t tokens = 0, supervised = 0, samples = 0, tiles = 0;
  bool skipped = false;
  std::string reason;  // why: what was not finite and in which records
};

// Tokens that are predicted: labelled, and not the first of their sample.
int64_t count_supervised(const MicroBatch& batch);
int64_t count_tiles(const MicroBatch& batch);

// kInvalidArgument: no micro-batch, or no supervised token in any.
// `replicas`: of the same parameters; the micro-batches are divided among them.
StepResult train_step(Replicas& replicas, Parameters& parameters, AdamW& optimizer, std::span<const MicroBatch> batches,
                      double learning_rate, const StepOptions& options);

}  // namespace vl2::train

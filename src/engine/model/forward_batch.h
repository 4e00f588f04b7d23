// One step's work: T tokens of one or several sequences, prefill chunks and decode steps alike.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/ops/ops.h"

namespace vl2 {

struct ForwardBatch {
  std::span<const SequenceSlice> sequences;  // cover the rows in order
  std::span<const int32_t> logit_rows;       // rows whose logits are wanted
  // Rows whose hidden states behind the last norm are wanted, and where they go, [hidden_rows, D].
  std::span<const int32_t> hidden_rows = {};
  Tensor hidden = {};
};

}  // namespace vl2

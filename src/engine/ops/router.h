// One token's choice of experts: one definition for every backend, so that near-ties fall the same way.
#pragma once

#include <vector>

#include "engine/ops/ops.h"

namespace vl2 {

// logits [E]; bias [E] or nullptr; writes expert [top_k] sorted by number, weight [top_k] aligned, scores and choice
// [E].
void route_row(const std::vector<double>& logits, const float* bias, const RouterParams& params, int32_t* expert,
               float* weight, float* scores, float* choice);

}  // namespace vl2

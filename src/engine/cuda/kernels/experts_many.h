// Experts of many rows (prompts): choices sorted by expert, two grouped products, sums by row.
#pragma once

#include "engine/cuda/kernels/experts.h"

namespace vl2::cuda {

void experts_many(Stream stream, const Experts& args);
size_t experts_many_scratch_bytes(const Experts& args);

// Sorts choices by expert, equal ones in their order: order[p] is the choice at position p, place[choice] its position,
// expert e has positions first[e] .. first[e + 1]. order and place [choices], first [experts + 1].
struct SortChoices {
  const int32_t* expert = nullptr;  // [choices]
  int64_t choices = 0, experts = 0;
  int32_t *first = nullptr, *order = nullptr, *place = nullptr;
};
void sort_choices(Stream stream, const SortChoices& args);

}  // namespace vl2::cuda

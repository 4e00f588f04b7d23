// Experts of few rows (decode steps): two launches that stream the chosen experts' matrices once.
#pragma once

#include "engine/cuda/kernels/experts.h"

namespace vl2::cuda {

bool experts_are_few(const Experts& args);
void experts_few(Stream stream, const Experts& args);
size_t experts_few_scratch_bytes(const Experts& args);

}  // namespace vl2::cuda

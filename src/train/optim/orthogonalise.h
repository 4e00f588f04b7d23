// Muon's update of a matrix: its momentum with all singular values brought close to 1 (Jordan et al. 2024), so that
// directions that are rarely seen are learnt as fast as frequent ones.
#pragma once

#include <ATen/core/Tensor.h>

namespace vl2::train {

// g: [..., R, C], any float type, any device. The result is float32 of the same shape; its singular values lie within
// about 0.7 to 1.2, five steps of a quintic iteration in `compute` (bf16 or float32). Zeros stay zeros.
at::Tensor orthogonalise(const at::Tensor& g, at::ScalarType compute);

}  // namespace vl2::train

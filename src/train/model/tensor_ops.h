// What the model's functions are made of beyond plain libtorch: norms with float32 statistics, and moving rows about
// without additions in the backward pass (index_select's own adds row by row, slowly and in no fixed order on a GPU).
//
// Plain functions; autograd goes through all of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace vl2::train {

// x_RD * rsqrt(mean(x^2) + eps) in float32, rounded to x's type, then times weight (golden quirk 10).
at::Tensor rms_norm(const at::Tensor& x_RD, const at::Tensor& weight, double eps);

// Which row stands where: a row of the result is row index[i] of the source, or zero.
class RowMap {
 public:
  RowMap() = default;
  // -1: a row of zeros.
  RowMap(const std::vector<int64_t>& index, at::Device device);

  bool defined() const { return index_.defined(); }
  at::Tensor apply(const at::Tensor& source) const;
  const at::Tensor& index() const { return index_; }  // zeros stand as 0
  const at::Tensor& zeros() const { return zeros_; }  // places of the zeros; undefined: none

 private:
  at::Tensor index_, zeros_;
};

// y = forward(x), dx = backward(dy): the two maps must be each other's inverse.
at::Tensor move_rows(const at::Tensor& x, const RowMap& forward, const RowMap& backward);

// Host numbers to a tensor of their own.
at::Tensor to_tensor(const std::vector<int64_t>& values, at::Device device);

}  // namespace vl2::train

#include "train/optim/orthogonalise.h"

#include <ATen/ATen.h>

namespace vl2::train {
namespace {

constexpr int kSteps = 5;
// x -> a x + b x^3 + c x^5, five times, takes all of (0.002, 1] near 1 (coefficients: Jordan et al. 2024).
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
constexpr double kEps = 1e-7;

}  // namespace

at::Tensor orthogonalise(const at::Tensor& g, at::ScalarType compute) {
  const int64_t rows = g.size(-2), columns = g.size(-1);
  at::Tensor x = g.to(at::kFloat).reshape({-1, rows, columns});
  x = x / (x.norm(2, {1, 2}, true) + kEps);
  // The smaller of both Gram matrices.
  const bool tall = rows > columns;
  if (tall) x = x.transpose(1, 2);
  x = x.contiguous().to(compute);
  for (int step = 0; step < kSteps; ++step) {
    const at::Tensor gram = at::bmm(x, x.transpose(1, 2));
    const at::Tensor polynomial = at::baddbmm(gram, gram, gram, kB, kC);
    x = at::baddbmm(x, polynomial, x, kA, 1.0);
  }
  if (tall) x = x.transpose(1, 2);
  return x.to(at::kFloat).reshape(g.sizes());
}

}  // namespace vl2::train

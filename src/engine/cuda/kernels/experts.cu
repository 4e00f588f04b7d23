#include "engine/cuda/device/kernel_language.h"
#include "engine/cuda/kernels/experts.h"
#include "engine/cuda/kernels/experts_few.h"
#include "engine/cuda/kernels/experts_many.h"
// After the kernel language.
#include "core/base/error.h"

namespace vl2::cuda {

int64_t experts_counters(int64_t width) { return (width + 15) / 16; }

size_t experts_scratch_bytes(const Experts& a) {
  return std::max(experts_few_scratch_bytes(a), experts_many_scratch_bytes(a));
}

void experts(Stream stream, const Experts& a) {
  if (a.rows == 0) return;
  const auto fits = [&](const MatrixView& w, int64_t rows, int64_t cols) {
    return w.format == a.routed.format && w.rows == rows && w.cols == cols;
  };
  VL2_CHECK(a.shared_gate.data == nullptr || (fits(a.shared_gate, a.shared_gate.rows, a.routed.width) &&
                                              fits(a.shared_up, a.shared_gate.rows, a.routed.width) &&
                                              fits(a.shared_down, a.routed.width, a.shared_gate.rows)),
            "[cuda] the shared experts are of another format or shape");
  VL2_CHECK(a.routed.experts <= 1024 && a.top_k <= a.routed.experts);
  if (experts_are_few(a)) return experts_few(stream, a);
  experts_many(stream, a);
}

}  // namespace vl2::cuda

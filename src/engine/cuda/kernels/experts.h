// Routed experts and the shared one: out[t] = sum over t's choices, in ascending order of experts, of weight *
// expert(x[t]), then + shared(x[t]). Sums have one order: results do not change from run to run.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"

namespace vl2::cuda {

// Where one expert's matrices lie (MatrixView::data of each).
struct ExpertPointers {
  const void *gate = nullptr, *up = nullptr, *down = nullptr;
};

// All experts of a layer have one format and shape: gate and up [inner, width], down [width, inner].
struct ExpertMatrices {
  const ExpertPointers* table = nullptr;  // device memory, [experts]
  int64_t experts = 0;                    // 1024 at most
  MatrixFormat format = MatrixFormat::kF32;
  int64_t width = 0, inner = 0;
  int64_t in_stride = 0, down_stride = 0;  // MatrixView::stride of gate and up, and of down
};

struct Experts {
  float* out = nullptr;  // [rows, width]; must not overlap x
  const float* x = nullptr;
  int64_t out_stride = 0, x_stride = 0;
  int64_t rows = 0;
  const int32_t* expert = nullptr;  // [rows, top_k], ascending and distinct within a row
  const float* weight = nullptr;    // [rows, top_k]
  int64_t top_k = 1;
  ExpertMatrices routed;
  // The shared block: the same format and width, any inner size; without data there is none. (Of another format: add it
  // afterwards with gated_few_rows and linear_few_rows, or by products.)
  MatrixView shared_gate, shared_up, shared_down;
  bool exact = true;        // as in linear.h
  bool add = false;         // out += instead of out =
  void* scratch = nullptr;  // experts_scratch_bytes(), 256-byte aligned
  // experts_counters() of them: zeros before the first call, left as zeros.
  int32_t* counters = nullptr;
};
void experts(Stream stream, const Experts& args);
size_t experts_scratch_bytes(const Experts& args);  // depends on shapes alone, never shrinks with more rows
int64_t experts_counters(int64_t width);

}  // namespace vl2::cuda

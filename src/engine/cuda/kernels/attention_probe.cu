#include "engine/cuda/kernels/attention_probe.h"

#include "engine/cuda/device/kernel_language.h"
#include "engine/cuda/device/reduce.h"

namespace vl2::cuda {
namespace {

// A block has one head of one row; scores wait in the output until their sum is known.
__global__ void probe_kernel(AttentionProbe a) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x / a.q.heads, head = blockIdx.x % a.q.heads;
  const float* q = a.q.data + row * a.q.row_stride + head * a.q.head_stride;
  float* out = a.out.data + row * a.out.row_stride + head * a.out.head_stride;
  const int64_t first = head / (a.q.heads / a.groups) * a.keys, length = a.past + row + 1;
  float top = -INFINITY;
  for (int64_t j = threadIdx.x; j < length; j += blockDim.x) {
    float score = 0;
    for (int64_t d = 0; d < a.q.cols; ++d) {
      const int64_t at = (first + j) * a.padded + d;
      score += q[d] * (a.bf16 ? bf16_float(static_cast<const uint16_t*>(a.k)[at]) : static_cast<const float*>(a.k)[at]);
    }
    out[j] = score *= a.scale;
    top = fmaxf(top, score);
  }
  top = block_max(top, scratch);
  float sum = 0;
  for (int64_t j = threadIdx.x; j < length; j += blockDim.x) sum += out[j] = expf(out[j] - top);
  sum = block_sum(sum, scratch);
  for (int64_t j = threadIdx.x; j < a.out.cols; j += blockDim.x) out[j] = j < length ? out[j] / sum : 0.0f;
}

}  // namespace

void attention_probe(const AttentionProbe& args, Stream stream) {
  if (args.q.rows == 0) return;
  VL2_LAUNCH(probe_kernel, dim3(static_cast<unsigned>(args.q.rows * args.q.heads)), dim3(64), 0, stream, args);
}

}  // namespace vl2::cuda

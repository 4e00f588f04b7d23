#include "engine/cuda/kernels/attention_device.h"
#include "engine/cuda/kernels/attention_probe.h"

namespace vl2::cuda {
namespace {

constexpr int kThreads = 128;

// A block for each row and head; scores are kept where the weights go.
__global__ __launch_bounds__(kThreads) void probe_kernel(AttentionProbe a) {
  __shared__ float scratch[32];
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x), visible = a.past + row + 1;
  const float* const q = a.q.data + row * a.q.row_stride + head * a.q.head_stride;
  const float* const k =
      a.k + static_cast<int64_t>(head / (static_cast<int>(a.q.heads) / a.groups)) * a.keys * a.padded;
  float* const out = a.probe.data + row * a.probe.row_stride + head * a.probe.head_stride;
  float top = -INFINITY;
  for (int j = thread; j < visible; j += kThreads) {
    float score = 0.0f;
    for (int d = 0; d < a.q.cols; ++d) score += q[d] * k[static_cast<int64_t>(j) * a.padded + d];
    out[j] = score * a.scale;
    top = fmaxf(top, out[j]);
  }
  top = block_max(top, scratch);
  float sum = 0.0f;
  for (int j = thread; j < visible; j += kThreads) sum += out[j] = expf(out[j] - top);
  sum = block_sum(sum, scratch);
  for (int j = thread; j < a.probe.cols; j += kThreads) out[j] = j < visible ? out[j] / sum : 0.0f;
}

}  // namespace

void probe_attention(const AttentionProbe& args, Stream stream) {
  check_argument(args.past + args.q.rows <= args.keys && args.keys <= args.probe.cols &&
                     args.probe.rows == args.q.rows && args.probe.heads == args.q.heads,
                 "probe_attention", "a column for every key");
  if (args.q.rows == 0) return;
  VL2_LAUNCH(probe_kernel, dim3(static_cast<unsigned>(args.q.rows), static_cast<unsigned>(args.q.heads)),
             dim3(kThreads), 0, stream, args);
}

}  // namespace vl2::cuda

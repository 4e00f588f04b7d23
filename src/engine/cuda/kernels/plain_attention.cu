#include "engine/cuda/kernels/attention_device.h"
#include "engine/cuda/kernels/plain_attention.h"

namespace vl2::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kRows = 4;  // of a warp
constexpr int kBlockRows = kWarps * kRows;
constexpr int kKeys = 32;  // of a tile: one for each lane

// Floats of shared memory: keys, values, queries, sums.
size_t shared_floats(const FlashAttention& a) {
  return static_cast<size_t>(kKeys * (a.padded_size + 1) + kKeys * a.padded_v +
                             kBlockRows * (a.padded_size + a.padded_v));
}

__global__ __launch_bounds__(kThreads) void plain_kernel(FlashAttention a) {
  VL2_DYNAMIC_SHARED(float, shared);
  const int size = a.padded_size, v_size = a.padded_v, k_stride = size + 1;
  float* const k_tile = shared;
  float* const v_tile = k_tile + kKeys * k_stride;
  float* const queries = v_tile + kKeys * v_size;
  float* const sums = queries + kBlockRows * size;
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int head = static_cast<int>(blockIdx.y), item = static_cast<int>(blockIdx.z);
  const int group = head / (static_cast<int>(a.q.heads) / a.groups);
  const int block_row = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kBlockRows;
  const int64_t item_row = static_cast<int64_t>(item) * a.rows;
  const int64_t packed = (static_cast<int64_t>(item) * a.groups + group) * a.keys;
  const float* const k = static_cast<const float*>(a.k) + packed * size;
  const float* const v = static_cast<const float*>(a.v) + packed * v_size;

  for (int i = thread; i < kBlockRows * size; i += kThreads) {
    const int row = i / size, column = i - row * size;
    const bool there = block_row + row < a.rows && column < a.q.cols;
    queries[i] =
        there ? a.q.data[(item_row + block_row + row) * a.q.row_stride + head * a.q.head_stride + column] : 0.0f;
  }
  for (int i = thread; i < kBlockRows * v_size; i += kThreads) sums[i] = 0.0f;
  float top[kRows], whole[kRows];
  VL2_UNROLL
  for (int r = 0; r < kRows; ++r) top[r] = -INFINITY, whole[r] = 0.0f;

  const int last_row = min(block_row + kBlockRows, a.rows) - 1;
  const int end = a.causal ? min(a.keys, a.past + last_row + 1) : a.keys;
  for (int first = 0; first < end; first += kKeys) {
    __syncthreads();  // the tiles of the round before were read, and queries written
    const int count = min(kKeys, a.keys - first);
    for (int i = thread; i < kKeys * size; i += kThreads) {
      const int key = i / size;
      k_tile[key * k_stride + i - key * size] = key < count ? k[static_cast<int64_t>(first) * size + i] : 0.0f;
    }
    for (int i = thread; i < kKeys * v_size; i += kThreads)
      v_tile[i] = i < count * v_size ? v[static_cast<int64_t>(first) * v_size + i] : 0.0f;
    __syncthreads();
    VL2_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int row = warp * kRows + r;
      const float* const q = queries + row * size;
      float score = 0.0f;
      for (int d = 0; d < size; ++d) score += q[d] * k_tile[lane * k_stride + d];
      const int visible = a.causal ? min(a.keys, a.past + block_row + row + 1) : a.keys;
      score = first + lane < visible ? score * a.scale : -INFINITY;
      const float highest = fmaxf(top[r], warp_max(score));
      const float weight = expf(score - highest), shrink = expf(top[r] - highest);
      top[r] = highest;
      whole[r] = whole[r] * shrink + warp_sum(weight);
      float* const sum = sums + row * v_size;
      for (int begin = 0; begin < v_size; begin += 32) {
        const int column = begin + lane;
        const bool there = column < v_size;
        float total = there ? sum[column] * shrink : 0.0f;
        for (int j = 0; j < kKeys; ++j) {
          const float w = __shfl_sync(0xffffffffu, weight, j);
          if (there) total += w * v_tile[j * v_size + column];
        }
        if (there) sum[column] = total;
      }
    }
  }
  VL2_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const int row = block_row + warp * kRows + r;
    if (row >= a.rows) continue;
    float* const out = a.out.data + (item_row + row) * a.out.row_stride + head * a.out.head_stride;
    for (int column = lane; column < a.out.cols; column += 32)
      out[column] = sums[(warp * kRows + r) * v_size + column] / whole[r];
  }
}

}  // namespace

void plain_attention(const FlashAttention& args, Stream stream) {
  const dim3 grid(static_cast<unsigned>((args.rows + kBlockRows - 1) / kBlockRows), static_cast<unsigned>(args.q.heads),
                  static_cast<unsigned>(args.items));
  VL2_LAUNCH(plain_kernel, grid, dim3(kThreads), shared_floats(args) * sizeof(float), stream, args);
}

}  // namespace vl2::cuda

#include "engine/cuda/kernels/attention_device.h"
#include "engine/cuda/kernels/latent_merge.h"

namespace vl2::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kOutputs = 4;  // of a warp
constexpr int kUnroll = 16;  // pieces a thread reads at once

// A block: kWarps * kOutputs outputs of one head and answer.
template <typename T>
__global__ __launch_bounds__(kThreads) void merge_expand_kernel(MergeExpand a) {
  VL2_DYNAMIC_SHARED(float, latent);  // [rank rounded up to 8]
  __shared__ float shares[kThreads], scratch[32];
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int head = static_cast<int>(blockIdx.y), answer = static_cast<int>(blockIdx.z);
  const int nope = a.weights.qk_nope, v = a.weights.v, rank = static_cast<int>(a.weights.w.cols);
  const int padded = (rank + 7) / 8 * 8;

  // Weights are on their way while pieces are merged: of the first 256 columns, all there is in small models.
  const int output = (static_cast<int>(blockIdx.x) * kWarps + warp) * kOutputs;
  const T* const w =
      static_cast<const T*>(a.weights.w.data) + (static_cast<int64_t>(head) * (nope + v) + nope) * a.weights.w.stride;
  float values[kOutputs][8] = {};
  VL2_UNROLL
  for (int j = 0; j < kOutputs; ++j)
    if (output + j < v && lane * 8 < padded) load8(w + (output + j) * a.weights.w.stride + lane * 8, values[j]);
  await_earlier_kernels();

  const int row = a.sequences.answer_rows[answer];
  const SequenceRows s = a.sequences.sequences[a.sequences.row_sequence[row]];
  const int keys = s.past + row - s.begin + 1, pieces = (keys + a.pieces.keys - 1) / a.pieces.keys;
  const int64_t first = (static_cast<int64_t>(answer) * a.pieces.heads + head) * a.pieces.count;
  const float2* const stats = reinterpret_cast<const float2*>(a.pieces.stats) + first;
  float top = -INFINITY;
  for (int i = thread; i < pieces; i += kThreads) top = fmaxf(top, stats[i].x);
  top = block_max(top, scratch);
  float whole = 0.0f;
  for (int c = thread; c < padded; c += kThreads) latent[c] = 0.0f;
  for (int begin = 0; begin < pieces; begin += kThreads) {
    float share = 0.0f;
    if (begin + thread < pieces) {
      const float2 piece = stats[begin + thread];
      share = exp2f(piece.x - top);
      whole += share * piece.y;
    }
    shares[thread] = share;
    __syncthreads();
    const int count = min(kThreads, pieces - begin);
    const float* const mix = a.pieces.mix + (first + begin) * rank;
    for (int c = thread * 2; c < rank; c += kThreads * 2) {
      const bool pair = rank % 2 == 0;  // rows then begin at multiples of 8 bytes
      float2 total = make_float2(latent[c], c + 1 < rank ? latent[c + 1] : 0.0f);
      for (int i = 0; i < count; i += kUnroll) {
        float2 x[kUnroll];
        VL2_UNROLL
        for (int j = 0; j < kUnroll; ++j) {
          const float* const from = mix + static_cast<int64_t>(i + j) * rank + c;
          x[j] = make_float2(0.0f, 0.0f);
          if (i + j >= count) continue;
          if (pair) {
            x[j] = *reinterpret_cast<const float2*>(from);
          } else {
            x[j] = make_float2(from[0], c + 1 < rank ? from[1] : 0.0f);
          }
        }
        VL2_UNROLL
        for (int j = 0; j < kUnroll; ++j) {
          if (i + j >= count) continue;
          total.x += shares[i + j] * x[j].x;
          total.y += shares[i + j] * x[j].y;
        }
      }
      latent[c] = total.x;
      if (c + 1 < rank) latent[c + 1] = total.y;
    }
    __syncthreads();
  }
  whole = block_sum(whole, scratch);  // its barriers publish the latent

  float sum[kOutputs] = {};
  for (int c = lane * 8; c < padded; c += 32 * 8) {
    float mine[8];
    load8(latent + c, mine);
    VL2_UNROLL
    for (int j = 0; j < kOutputs; ++j) {
      if (c >= 32 * 8 && output + j < v) load8(w + (output + j) * a.weights.w.stride + c, values[j]);
      VL2_UNROLL
      for (int i = 0; i < 8; ++i) sum[j] += values[j][i] * mine[i];
    }
  }
  VL2_UNROLL
  for (int j = 0; j < kOutputs; ++j) {
    const float total = warp_sum(sum[j]);
    if (lane == 0 && output + j < v)
      a.out.data[row * a.out.row_stride + head * a.out.head_stride + output + j] = total / whole;
  }
}

}  // namespace

void merge_expand(const MergeExpand& args, Stream stream) {
  const LatentMatrix& m = args.weights;
  check_argument(m.w.format == MatrixFormat::kF32 || m.w.format == MatrixFormat::kBf16, "merge_expand",
                 "kv_b in float32 or bfloat16, row by row");
  check_argument(args.pieces.v_size == m.w.cols && args.pieces.heads == m.heads, "merge_expand",
                 "pieces of these heads' latents");
  if (args.sequences.decode_rows == 0) return;
  const dim3 grid(static_cast<unsigned>((m.v + kWarps * kOutputs - 1) / (kWarps * kOutputs)),
                  static_cast<unsigned>(m.heads), static_cast<unsigned>(args.sequences.decode_rows));
  const size_t bytes = static_cast<size_t>((m.w.cols + 7) / 8 * 8) * sizeof(float);
  if (m.w.format == MatrixFormat::kF32) {
    VL2_LAUNCH_EARLY(merge_expand_kernel<float>, grid, dim3(kThreads), bytes, stream, args);
  } else {
    VL2_LAUNCH_EARLY(merge_expand_kernel<Bf16Bits>, grid, dim3(kThreads), bytes, stream, args);
  }
}

}  // namespace vl2::cuda

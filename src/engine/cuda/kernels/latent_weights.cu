#include <type_traits>

#include "engine/cuda/kernels/attention_device.h"
#include "engine/cuda/kernels/latent_weights.h"

namespace vl2::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kColumns = 64;                       // absorb: of a block
constexpr int kLanes = kThreads / (kColumns / 8);  // absorb: threads that share eight columns
constexpr int kDepth = 8;                          // absorb: loads of a thread in flight
constexpr int kOutputs = 4;                        // expand: of a warp

// A block: kColumns of the latent space for one head and Rows answers. Weights are read along their rows.
template <typename T, int Rows>
__global__ __launch_bounds__(kThreads) void absorb_kernel(AbsorbQueries a) {
  VL2_DYNAMIC_SHARED(float, queries);  // [Rows][qk_nope]
  __shared__ __align__(16) float partial[kWarps][Rows][kColumns];
  const int column = static_cast<int>(blockIdx.x) * kColumns + static_cast<int>(threadIdx.x) % (kColumns / 8) * 8;
  const T* const w = static_cast<const T*>(a.weights.w.data) +
                     static_cast<int64_t>(blockIdx.y) * (a.weights.qk_nope + a.weights.v) * a.weights.w.stride + column;
  if (threadIdx.x % (kColumns / 8) == 0 && column < a.weights.w.cols)
    for (int n = static_cast<int>(threadIdx.x) / (kColumns / 8); n < a.weights.qk_nope; n += kLanes)
      prefetch(w + n * a.weights.w.stride);
  await_earlier_kernels();
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int head = static_cast<int>(blockIdx.y), first = static_cast<int>(blockIdx.z) * Rows;
  const int nope = a.weights.qk_nope, rank = static_cast<int>(a.weights.w.cols);
  const int rope = static_cast<int>(a.q.cols) - nope, answers = a.sequences.decode_rows;
  const auto query = [&](int r) {
    return a.q.data + a.sequences.answer_rows[first + r] * a.q.row_stride + head * a.q.head_stride;
  };
  const auto target = [&](int r) { return a.out.data + (first + r) * a.out.row_stride + head * a.out.head_stride; };
  for (int r = 0; r < Rows; ++r) {
    const bool there = first + r < answers;
    for (int n = thread; n < nope; n += kThreads) queries[r * nope + n] = there ? query(r)[n] : 0.0f;
    if (there && blockIdx.x == 0)
      for (int c = thread; c < rope; c += kThreads) target(r)[rank + c] = query(r)[nope + c];
  }
  __syncthreads();

  float sum[Rows][8] = {};
  for (int begin = thread / (kColumns / 8); begin < nope && column < rank; begin += kLanes * kDepth) {
    float values[kDepth][8];
    VL2_UNROLL
    for (int j = 0; j < kDepth; ++j)
      if (begin + j * kLanes < nope) load8(w + (begin + j * kLanes) * a.weights.w.stride, values[j]);
    VL2_UNROLL
    for (int j = 0; j < kDepth; ++j) {
      const int n = begin + j * kLanes;
      if (n >= nope) continue;
      VL2_UNROLL
      for (int r = 0; r < Rows; ++r) {
        const float q = queries[r * nope + n];
        VL2_UNROLL
        for (int c = 0; c < 8; ++c) sum[r][c] += q * values[j][c];
      }
    }
  }
  VL2_UNROLL
  for (int r = 0; r < Rows; ++r) {
    VL2_UNROLL
    for (int c = 0; c < 8; ++c) {
      float x = sum[r][c];
      x += __shfl_xor_sync(kAllLanes, x, 8);
      x += __shfl_xor_sync(kAllLanes, x, 16);
      if (lane < 8) partial[warp][r][lane * 8 + c] = x;
    }
  }
  __syncthreads();
  for (int i = thread; i < Rows * kColumns; i += kThreads) {
    const int r = i / kColumns, c = i % kColumns, at = static_cast<int>(blockIdx.x) * kColumns + c;
    if (first + r >= answers || at >= rank) continue;
    float x = 0.0f;
    VL2_UNROLL
    for (int p = 0; p < kWarps; ++p) x += partial[p][r][c];
    target(r)[at] = x;
  }
}

// A block: kWarps * kOutputs outputs of one head for Rows answers; a warp sums along the rows of W_UV.
template <typename T, int Rows>
__global__ __launch_bounds__(kThreads) void expand_kernel(ExpandValues a) {
  VL2_DYNAMIC_SHARED(float, x);  // [Rows][rank rounded up to 8]
  await_earlier_kernels();
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int head = static_cast<int>(blockIdx.y), first = static_cast<int>(blockIdx.z) * Rows;
  const int nope = a.weights.qk_nope, v = a.weights.v, rank = static_cast<int>(a.weights.w.cols);
  const int padded = (rank + 7) / 8 * 8, answers = a.sequences.decode_rows;
  for (int r = 0; r < Rows; ++r)
    for (int c = thread; c < padded; c += kThreads)
      x[r * padded + c] =
          first + r < answers && c < rank ? a.x.data[(first + r) * a.x.row_stride + head * a.x.head_stride + c] : 0.0f;
  __syncthreads();

  const int output = (static_cast<int>(blockIdx.x) * kWarps + warp) * kOutputs;
  const T* const w =
      static_cast<const T*>(a.weights.w.data) + (static_cast<int64_t>(head) * (nope + v) + nope) * a.weights.w.stride;
  float sum[kOutputs][Rows] = {};
  for (int c = lane * 8; c < padded; c += 32 * 8) {
    float values[kOutputs][8];
    VL2_UNROLL
    for (int j = 0; j < kOutputs; ++j)
      if (output + j < v) load8(w + (output + j) * a.weights.w.stride + c, values[j]);
    VL2_UNROLL
    for (int r = 0; r < Rows; ++r) {
      float mine[8];
      load8(x + r * padded + c, mine);
      VL2_UNROLL
      for (int j = 0; j < kOutputs; ++j) {
        if (output + j >= v) continue;
        VL2_UNROLL
        for (int i = 0; i < 8; ++i) sum[j][r] += values[j][i] * mine[i];
      }
    }
  }
  VL2_UNROLL
  for (int j = 0; j < kOutputs; ++j) {
    VL2_UNROLL
    for (int r = 0; r < Rows; ++r) {
      const float total = warp_sum(sum[j][r]);
      if (lane != 0 || first + r >= answers || output + j >= v) continue;
      const int row = a.sequences.answer_rows[first + r];
      a.out.data[row * a.out.row_stride + head * a.out.head_stride + output + j] = total;
    }
  }
}

// run(type, rows at once) for the weights' type and the number of answers.
template <typename Run>
void choose(const LatentMatrix& weights, int32_t answers, const char* launcher, const Run& run) {
  const MatrixFormat format = weights.w.format;
  check_argument(format == MatrixFormat::kF32 || format == MatrixFormat::kBf16, launcher,
                 "kv_b in float32 or bfloat16, row by row");
  check_argument(weights.w.rows == static_cast<int64_t>(weights.heads) * (weights.qk_nope + weights.v), launcher,
                 "a row of kv_b for every key and value");
  if (answers == 0) return;
  constexpr std::integral_constant<int, 1> kOne;
  constexpr std::integral_constant<int, 8> kMany;
  if (format == MatrixFormat::kF32) return answers == 1 ? run(float{}, kOne) : run(float{}, kMany);
  answers == 1 ? run(Bf16Bits{}, kOne) : run(Bf16Bits{}, kMany);
}

unsigned ceil_div(int64_t x, int64_t n) { return static_cast<unsigned>((x + n - 1) / n); }

}  // namespace

void absorb_queries(const AbsorbQueries& args, Stream stream) {
  const LatentMatrix& m = args.weights;
  choose(m, args.sequences.decode_rows, "absorb_queries", [&](auto type, auto rows) {
    constexpr int kRows = decltype(rows)::value;
    const dim3 grid(ceil_div(m.w.cols, kColumns), static_cast<unsigned>(m.heads),
                    ceil_div(args.sequences.decode_rows, kRows));
    VL2_LAUNCH_EARLY((absorb_kernel<decltype(type), kRows>), grid, dim3(kThreads),
                     static_cast<size_t>(kRows * m.qk_nope) * sizeof(float), stream, args);
  });
}

void expand_values(const ExpandValues& args, Stream stream) {
  const LatentMatrix& m = args.weights;
  choose(m, args.sequences.decode_rows, "expand_values", [&](auto type, auto rows) {
    constexpr int kRows = decltype(rows)::value;
    const dim3 grid(ceil_div(m.v, kWarps * kOutputs), static_cast<unsigned>(m.heads),
                    ceil_div(args.sequences.decode_rows, kRows));
    VL2_LAUNCH_EARLY((expand_kernel<decltype(type), kRows>), grid, dim3(kThreads),
                     static_cast<size_t>(kRows * ((m.w.cols + 7) / 8 * 8)) * sizeof(float), stream, args);
  });
}

}  // namespace vl2::cuda

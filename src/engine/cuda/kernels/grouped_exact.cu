// Grouped products in float32: 64 positions by 64 rows of W (and V) a block, four by four a thread, 16 k at a time.
#include "engine/cuda/kernels/codes.h"
#include "engine/cuda/kernels/grouped.h"
#include "engine/cuda/kernels/grouped_device.h"
#include "engine/cuda/kernels/grouped_launch.h"

namespace vl2::cuda {
namespace {

constexpr int kTile = 64, kDepth = 16, kThreads = 256, kPadded = kTile + 4;

template <MatrixFormat format>
__device__ __forceinline__ float weight_at(const FewMatrix& w, int row, int k) {
  if (row >= w.rows || k >= w.cols) return 0;
  if constexpr (format == MatrixFormat::kF32) return static_cast<const float*>(w.data)[row * w.stride + k];
  if constexpr (format == MatrixFormat::kBf16)
    return bf16_float(static_cast<const uint16_t*>(w.data)[row * w.stride + k]);
  const unsigned char* panel = static_cast<const unsigned char*>(w.data) + row / 16 * w.stride;
  const float scale = bf16_float(reinterpret_cast<const uint16_t*>(panel)[k / kUnit * 16 + row % 16]);
  const unsigned char* codes = panel + w.scale_bytes + row % 16 * 4 + k % 4;
  if constexpr (format == MatrixFormat::kQ8) return scale * static_cast<float>(codes[k / 4 * 64] - 128);
  return scale * static_cast<float>((codes[k / 8 * 64] >> k % 8 / 4 * 4 & 15) - 8);
}

template <MatrixFormat format, bool gated>
__global__ void __launch_bounds__(kThreads) grouped_exact_kernel(GroupedArgs a) {
  __shared__ __align__(16) float xs[kDepth][kPadded];
  __shared__ __align__(16) float ws[gated ? 2 : 1][kDepth][kPadded];
  const int thread = static_cast<int>(threadIdx.x);
  const GroupTile tile = find_tile(a, static_cast<int>(blockIdx.y), kTile);
  if (tile.count <= 0) return;
  FewMatrix w, v;
  choose_matrices(a, tile.group, w, v);
  const int column = static_cast<int>(blockIdx.x) * kTile, cols = w.cols;

  // Loads: k = thread % 16 of rows thread / 16 + 16 i. Products: rows thread / 16 * 4 .., columns thread % 16 * 4 ..
  const int k_of = thread % 16, first = thread / 16;
  const float* rows[4];
  for (int i = 0; i < 4; ++i)
    rows[i] = first + 16 * i < tile.count
                  ? static_cast<const float*>(a.x) + row_of(a, tile.begin + first + 16 * i) * a.x_stride
                  : nullptr;
  float sum[gated ? 2 : 1][4][4] = {};
  for (int k = 0; k < cols; k += kDepth) {
    VL2_UNROLL
    for (int i = 0; i < 4; ++i) {
      xs[k_of][first + 16 * i] = rows[i] != nullptr && k + k_of < cols ? rows[i][k + k_of] : 0.0f;
      ws[0][k_of][first + 16 * i] = weight_at<format>(w, column + first + 16 * i, k + k_of);
      if constexpr (gated) ws[1][k_of][first + 16 * i] = weight_at<format>(v, column + first + 16 * i, k + k_of);
    }
    __syncthreads();
    VL2_UNROLL
    for (int d = 0; d < kDepth; ++d) {
      const float4 x = *reinterpret_cast<const float4*>(&xs[d][thread / 16 * 4]);
      const float left[4] = {x.x, x.y, x.z, x.w};
      VL2_UNROLL
      for (int n = 0; n < (gated ? 2 : 1); ++n) {
        const float4 y = *reinterpret_cast<const float4*>(&ws[n][d][thread % 16 * 4]);
        const float right[4] = {y.x, y.y, y.z, y.w};
        VL2_UNROLL
        for (int i = 0; i < 4; ++i) {
          VL2_UNROLL
          for (int j = 0; j < 4; ++j) sum[n][i][j] = fmaf(left[i], right[j], sum[n][i][j]);
        }
      }
    }
    __syncthreads();
  }
  VL2_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int row = thread / 16 * 4 + i;
    if (row >= tile.count) continue;
    VL2_UNROLL
    for (int j = 0; j < 4; ++j) {
      const int at = column + thread % 16 * 4 + j;
      if (at >= w.rows) continue;
      float* out = static_cast<float*>(a.out) + (tile.begin + row) * a.out_stride + at;
      if constexpr (gated) {
        *out = silu(sum[0][i][j]) * sum[1][i][j];
      } else {
        const float value = sum[0][i][j] + (a.bias != nullptr ? a.bias[at] : 0.0f);
        *out = a.add ? *out + value : value;
      }
    }
  }
}

template <MatrixFormat format>
void launch_exact(Stream stream, const Grouped& a) {
  const GroupedArgs args = grouped_args(a);
  const dim3 grid(static_cast<unsigned>((a.w.rows + kTile - 1) / kTile), row_tiles(a, kTile));
  if (a.v.rows > 0) {
    VL2_LAUNCH((grouped_exact_kernel<format, true>), grid, kThreads, 0, stream, args);
  } else {
    VL2_LAUNCH((grouped_exact_kernel<format, false>), grid, kThreads, 0, stream, args);
  }
}

}  // namespace

void grouped_exact(Stream stream, const Grouped& a) {
  if (a.positions == 0 || a.w.rows == 0) return;
  switch (a.w.format) {
    case MatrixFormat::kF32:
      return launch_exact<MatrixFormat::kF32>(stream, a);
    case MatrixFormat::kBf16:
      return launch_exact<MatrixFormat::kBf16>(stream, a);
    case MatrixFormat::kQ8:
      return launch_exact<MatrixFormat::kQ8>(stream, a);
    case MatrixFormat::kQ4:
      return launch_exact<MatrixFormat::kQ4>(stream, a);
  }
}

}  // namespace vl2::cuda

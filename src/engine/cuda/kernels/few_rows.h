// y = W x for up to 16 rows x, limited by how fast W arrives: what the kernels for decode steps share.
//
// A block owns a tile of rows of W; its warps share k in units of 128 and add up in shared memory, in the order of the
// warps. A warp takes W as the left factor of mma, straight from memory to registers by loads of 16 bytes, a whole unit
// in flight; rows x are the 8 columns on the right (two such tiles beyond 8 rows). The order of k inside an mma is
// whatever makes W's loads wide; x is picked to match.
//
//   bf16    16 rows; a lane's load is 8 k of one row
//   q8, q4  32 rows, two panels side by side; a lane's load is 4 (q8) or 8 (q4) k of four rows of one panel
//
// Codes are multiplied as the whole numbers they are, and a group's sum by its scale. x is rounded to bfloat16 (pieces
// == 1), or split into three bfloat16 that add up to it (pieces == 3), so that products are exact and sums float32.
#pragma once

#include "engine/cuda/device/reduce.h"
#include "engine/cuda/device/tensor_core.h"
#include "engine/cuda/kernels/codes.h"
#include "engine/cuda/kernels/matrix.h"

namespace vl2::cuda {

inline constexpr int kFewRows = 16;    // of x, at most
inline constexpr int kUnit = 128;      // k of a unit: a group of scales
inline constexpr int kMostWarps = 16;  // of a block

template <MatrixFormat format>
inline constexpr int kTileRows = format == MatrixFormat::kBf16 ? 16 : 32;

// What of a matrix a block needs; the same for all experts of a layer but the pointer.
struct FewMatrix {
  const void* data;
  int rows, cols;
  int64_t stride;   // MatrixView::stride
  int scale_bytes;  // of a panel; 0 for bf16
};

// A row of x, or none.
struct FewInput {
  const float* row[2];  // of this lane's column in either tile; nullptr: zeros
  bool aligned;         // all rows begin at multiples of 16 bytes
};

__device__ __forceinline__ void load4(float (&v)[8], int at, const float* row, int k, int cols, bool aligned) {
  float4 x = make_float4(0, 0, 0, 0);
  if (row != nullptr) {
    if (aligned && k + 4 <= cols) {
      x = __ldg(reinterpret_cast<const float4*>(row + k));
    } else {
      if (k < cols) x.x = row[k];
      if (k + 1 < cols) x.y = row[k + 1];
      if (k + 2 < cols) x.z = row[k + 2];
      if (k + 3 < cols) x.w = row[k + 3];
    }
  }
  v[at] = x.x, v[at + 1] = x.y, v[at + 2] = x.z, v[at + 3] = x.w;
}

// The right factors of two mma from a lane's eight x; what rounding loses stays in v.
template <MatrixFormat format>
__device__ __forceinline__ void right_factors(unsigned (&b)[2][2], float (&v)[8], bool keep_rest) {
  constexpr bool q8 = format == MatrixFormat::kQ8, q4 = format == MatrixFormat::kQ4;
  constexpr int order[8] = {0,          q4 || q8 ? 2 : 1,    q4 ? 4 : q8 ? 1 : 2, q4 ? 6 : 3,
                            q4 ? 1 : 4, q4 ? 3 : q8 ? 6 : 5, q4 ? 5 : q8 ? 5 : 6, 7};
  VL2_UNROLL
  for (int i = 0; i < 4; ++i) {
    const float low = v[order[2 * i]], high = v[order[2 * i + 1]];
    const unsigned pair = bf16_pair(low, high);
    b[i / 2][i % 2] = pair;
    if (keep_rest) {
      v[order[2 * i]] = low - bf16_low(pair);
      v[order[2 * i + 1]] = high - bf16_high(pair);
    }
  }
}

// The left factors of k-step `half` for the lane's rows 2 p, 2 p + 1.
template <MatrixFormat format>
__device__ __forceinline__ void left_factor(unsigned (&a)[4], const uint4 (&w)[2], int half, int p) {
  if constexpr (format == MatrixFormat::kBf16) {
    a[0] = half == 0 ? w[0].x : w[0].z;
    a[1] = half == 0 ? w[1].x : w[1].z;
    a[2] = half == 0 ? w[0].y : w[0].w;
    a[3] = half == 0 ? w[1].y : w[1].w;
  } else if constexpr (format == MatrixFormat::kQ8) {
    const unsigned first = p == 0 ? w[half].x : w[half].z, second = p == 0 ? w[half].y : w[half].w;
    a[0] = q8_pair(first), a[1] = q8_pair(second);
    a[2] = q8_pair(first >> 8), a[3] = q8_pair(second >> 8);
  } else {
    const unsigned first = (p == 0 ? w[0].x : w[0].z) >> 8 * half, second = (p == 0 ? w[0].y : w[0].w) >> 8 * half;
    a[0] = q4_pair(first), a[1] = q4_pair(second);
    a[2] = q4_pair(first >> 4), a[3] = q4_pair(second >> 4);
  }
}

template <MatrixFormat format, int tiles, int pieces>
struct FewSum {
  static constexpr int kRows = kTileRows<format>, kPairs = kRows / 16, kLoads = format == MatrixFormat::kQ4 ? 4 : 8;
  float sum[kPairs][tiles][4] = {};

  // This warp's units of tile `tile`: numbers warp, warp + warps, ...
  __device__ __forceinline__ void add(const FewMatrix& w, int tile, const FewInput& x, int warp, int warps) {
    const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    const unsigned char* base = static_cast<const unsigned char*>(w.data);
    const unsigned char *first = nullptr, *second = nullptr;  // rows g and g + 8, or this lane's panel
    if constexpr (format == MatrixFormat::kBf16) {
      const int row = tile * 16 + g;
      if (row < w.rows) first = base + row * w.stride * 2;
      if (row + 8 < w.rows) second = base + (row + 8) * w.stride * 2;
    } else {
      const int panel = tile * 2 + g / 4;
      if (panel * 16 < w.rows) first = base + panel * w.stride;
    }
    const int units = (w.cols + kUnit - 1) / kUnit;
    const int depth = format == MatrixFormat::kBf16 ? static_cast<int>(w.stride) : (w.cols + 63) / 64 * 64;
    for (int unit = warp; unit < units; unit += warps) {
      const int k = unit * kUnit;
      uint4 loaded[kLoads];
      VL2_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        loaded[i] = make_uint4(0, 0, 0, 0);
        if constexpr (format == MatrixFormat::kBf16) {
          const unsigned char* row = i % 2 == 0 ? first : second;
          const int at = k + i / 2 * 32 + t * 8;
          if (row != nullptr && at < depth) loaded[i] = __ldcs(reinterpret_cast<const uint4*>(row + at * 2));
        } else {
          constexpr int line = format == MatrixFormat::kQ8 ? 4 : 8;  // k of 64 bytes
          const int at = k + (i * 4 + t) * line;
          if (first != nullptr && at < depth)
            loaded[i] = __ldcs(reinterpret_cast<const uint4*>(first + w.scale_bytes + at / line * 64 + g % 4 * 16));
        }
      }
      uint2 scales = make_uint2(0, 0);
      if (format != MatrixFormat::kBf16 && first != nullptr)
        scales = __ldg(reinterpret_cast<const uint2*>(first + unit * 32 + g % 4 * 8));

      float part[kPairs][tiles][4] = {};
      VL2_UNROLL
      for (int step = 0; step < 4; ++step) {
        uint4 mine[2];
        mine[0] = loaded[kLoads / 4 * step];
        mine[1] = loaded[kLoads / 4 * step + kLoads / 4 - 1];
        VL2_UNROLL
        for (int n = 0; n < tiles; ++n) {
          constexpr bool q8 = format == MatrixFormat::kQ8;
          const int at = k + step * 32 + t * (q8 ? 4 : 8);
          float v[8];
          load4(v, 0, x.row[n], at, w.cols, x.aligned);
          load4(v, 4, x.row[n], at + (q8 ? 16 : 4), w.cols, x.aligned);
          VL2_UNROLL
          for (int piece = 0; piece < pieces; ++piece) {
            unsigned b[2][2];
            right_factors<format>(b, v, piece + 1 < pieces);
            VL2_UNROLL
            for (int p = 0; p < kPairs; ++p) {
              VL2_UNROLL
              for (int half = 0; half < 2; ++half) {
                unsigned a[4];
                left_factor<format>(a, mine, half, p);
                mma_bf16(format == MatrixFormat::kBf16 ? sum[p][n] : part[p][n], a, b[half]);
              }
            }
          }
        }
      }
      if constexpr (format != MatrixFormat::kBf16) {
        VL2_UNROLL
        for (int p = 0; p < kPairs; ++p) {
          const unsigned pair = p == 0 ? scales.x : scales.y;
          VL2_UNROLL
          for (int n = 0; n < tiles; ++n) {
            VL2_UNROLL
            for (int i = 0; i < 4; ++i) sum[p][n][i] += (i < 2 ? bf16_low(pair) : bf16_high(pair)) * part[p][n][i];
          }
        }
      }
    }
  }

  static constexpr int kValues = kRows * 8 * tiles;  // of a warp

  // To shared memory [warps][columns of x][rows of the tile].
  __device__ __forceinline__ void store(float* shared, int warp) const {
    const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    VL2_UNROLL
    for (int p = 0; p < kPairs; ++p) {
      VL2_UNROLL
      for (int n = 0; n < tiles; ++n) {
        VL2_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int row = format == MatrixFormat::kBf16 ? g + i / 2 * 8 : g * 4 + 2 * p + i / 2;
          shared[warp * kValues + (n * 8 + 2 * t + i % 2) * kRows + row] = sum[p][n][i];
        }
      }
    }
  }
};

// The sum over warps of value `i` of what store() left.
__device__ __forceinline__ float sum_of_warps(const float* shared, int values, int i, int warps) {
  float sum = 0;
  for (int w = 0; w < warps; ++w) sum += shared[w * values + i];
  return sum;
}

}  // namespace vl2::cuda

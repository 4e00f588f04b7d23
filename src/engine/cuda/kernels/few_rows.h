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

// Blocks of kMostWarps that registers are kept for: two where that spills next to nothing. What is loaded by a block
// that waits for its turn is not on its way.
constexpr int blocks_of_few(MatrixFormat format, int tiles, int pieces) {
  return format == MatrixFormat::kBf16 && tiles == 1 && pieces == 1 ? 2 : 1;
}

template <MatrixFormat format>
inline constexpr int kTileRows = format == MatrixFormat::kBf16 ? 16 : 32;

// What of a matrix a block needs; the same for all experts of a layer but the pointer.
struct FewMatrix {
  const void* data;
  int rows, cols;
  int64_t stride;   // MatrixView::stride
  int scale_bytes;  // of a panel; 0 for bf16
};

// Rows of x. Columns of a tile beyond the last row multiply some row again, and nobody looks at them.
struct FewInput {
  const float* row[2];  // of this lane's column in either tile
  bool aligned;         // all rows begin at multiples of 16 bytes
};

// whole: row + k is aligned, and cols are beyond k + 3.
template <bool whole>
__device__ __forceinline__ void load4(float (&v)[8], int at, const float* row, int k, int cols) {
  float4 x = make_float4(0, 0, 0, 0);
  if constexpr (whole) {
    x = *reinterpret_cast<const float4*>(row + k);
  } else {
    if (k < cols) x.x = row[k];
    if (k + 1 < cols) x.y = row[k + 1];
    if (k + 2 < cols) x.z = row[k + 2];
    if (k + 3 < cols) x.w = row[k + 3];
  }
  v[at] = x.x, v[at + 1] = x.y, v[at + 2] = x.z, v[at + 3] = x.w;
}

__device__ __forceinline__ void load4(float (&v)[8], int at, const float* row, int k, int cols, bool aligned) {
  aligned&& k + 4 <= cols ? load4<true>(v, at, row, k, cols) : load4<false>(v, at, row, k, cols);
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

// A lane's part of a tile of W's rows, and what a warp loads of it at a time.
template <MatrixFormat format>
struct FewTile {
  static constexpr int kLoads = format == MatrixFormat::kQ4 ? 4 : 8;
  struct Unit {
    uint4 loaded[kLoads];
    uint2 scales;
  };
  // Rows g and g + 8, or this lane's panel; behind W's end the last ones again, for nobody.
  const unsigned char *first, *second;
  int cols, depth, scale_bytes;

  __device__ __forceinline__ FewTile(const FewMatrix& w, int tile)
      : cols(w.cols),
        depth(format == MatrixFormat::kBf16 ? static_cast<int>(w.stride) : (w.cols + 63) / 64 * 64),
        scale_bytes(w.scale_bytes) {
    const int g = static_cast<int>(threadIdx.x % 32) / 4;
    const unsigned char* base = static_cast<const unsigned char*>(w.data);
    if constexpr (format == MatrixFormat::kBf16) {
      const int row = tile * 16 + g;
      first = base + min(row, w.rows - 1) * w.stride * 2;
      second = base + min(row + 8, w.rows - 1) * w.stride * 2;
    } else {
      first = second = base + min(tile * 2 + g / 4, (w.rows - 1) / 16) * w.stride;
    }
  }
  // Eight rows of either of two bf16 matrices of one shape, from row `row` on.
  __device__ __forceinline__ FewTile(const FewMatrix& w, const FewMatrix& v, int row)
      : cols(w.cols), depth(static_cast<int>(w.stride)), scale_bytes(0) {
    const int64_t at = min(row + static_cast<int>(threadIdx.x % 32) / 4, w.rows - 1) * w.stride * 2;
    first = static_cast<const unsigned char*>(w.data) + at;
    second = static_cast<const unsigned char*>(v.data) + at;
  }
  __device__ __forceinline__ int units() const { return (cols + kUnit - 1) / kUnit; }

  // Without a question between them all loads go out together.
  __device__ __forceinline__ void load(Unit& u, int unit) const {
    (unit + 1) * kUnit <= depth ? load_unit<true>(u, unit) : load_unit<false>(u, unit);
  }
  template <bool whole>
  __device__ __forceinline__ void load_unit(Unit& u, int unit) const {
    const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4, k = unit * kUnit;
    VL2_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      if constexpr (!whole) u.loaded[i] = make_uint4(0, 0, 0, 0);
      if constexpr (format == MatrixFormat::kBf16) {
        const int at = k + i / 2 * 32 + t * 8;
        if (whole || at < depth)
          u.loaded[i] = __ldcs(reinterpret_cast<const uint4*>((i % 2 == 0 ? first : second) + at * 2));
      } else {
        constexpr int line = format == MatrixFormat::kQ8 ? 4 : 8;  // k of 64 bytes
        const int at = k + (i * 4 + t) * line;
        if (whole || at < depth)
          u.loaded[i] = __ldcs(reinterpret_cast<const uint4*>(first + scale_bytes + at / line * 64 + g % 4 * 16));
      }
    }
    if constexpr (format != MatrixFormat::kBf16)
      u.scales = __ldg(reinterpret_cast<const uint2*>(first + unit * 32 + g % 4 * 8));
  }
};

template <MatrixFormat format, int tiles, int pieces>
struct FewSum {
  using Tile = FewTile<format>;
  static constexpr int kRows = kTileRows<format>, kPairs = kRows / 16, kLoads = Tile::kLoads;
  float sum[kPairs][tiles][4] = {};

  // This warp's units of tile `tile`: numbers warp, warp + warps, ... before_x() is called in between, when the first
  // weights are on their way and before x is read.
  template <typename Before>
  __device__ __forceinline__ void add(const FewMatrix& w, int tile, const FewInput& x, int warp, int warps,
                                      const Before& before_x) {
    add(Tile(w, tile), x, warp, warps, before_x);
  }
  template <typename Before>
  __device__ __forceinline__ void add(const Tile& rows, const FewInput& x, int warp, int warps,
                                      const Before& before_x) {
    typename Tile::Unit unit;
    if (warp < rows.units()) rows.load(unit, warp);
    before_x();
    for (int u = warp; u < rows.units(); u += warps) {
      if (u != warp) rows.load(unit, u);
      multiply(unit, u, x, rows.cols);
    }
  }

  // One unit of W's rows by x.
  __device__ __forceinline__ void multiply(const typename Tile::Unit& u, int unit, const FewInput& x, int cols) {
    if (x.aligned && (unit + 1) * kUnit <= cols)
      multiply_unit<true>(u, unit, x, cols);
    else
      multiply_unit<false>(u, unit, x, cols);
  }

  // whole: rows of x can be read 16 bytes at a time.
  template <bool whole>
  __device__ __forceinline__ void multiply_unit(const typename Tile::Unit& u, int unit, const FewInput& x, int cols) {
    const int t = static_cast<int>(threadIdx.x % 4), k = unit * kUnit;
    float part[kPairs][tiles][4] = {};
    VL2_UNROLL
    for (int step = 0; step < 4; ++step) {
      uint4 mine[2];
      mine[0] = u.loaded[kLoads / 4 * step];
      mine[1] = u.loaded[kLoads / 4 * step + kLoads / 4 - 1];
      VL2_UNROLL
      for (int n = 0; n < tiles; ++n) {
        constexpr bool q8 = format == MatrixFormat::kQ8;
        const int at = k + step * 32 + t * (q8 ? 4 : 8);
        float v[8];
        load4<whole>(v, 0, x.row[n], at, cols);
        load4<whole>(v, 4, x.row[n], at + (q8 ? 16 : 4), cols);
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
        const unsigned pair = p == 0 ? u.scales.x : u.scales.y;
        VL2_UNROLL
        for (int n = 0; n < tiles; ++n) {
          VL2_UNROLL
          for (int i = 0; i < 4; ++i) sum[p][n][i] += (i < 2 ? bf16_low(pair) : bf16_high(pair)) * part[p][n][i];
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

// silu(gate x) * (up x) for a tile of rows of two matrices of one shape. In bf16 a tile of mma is eight rows of either,
// so that both arrive in one load; of codes, whose tiles are panels, one comes after the other.
template <MatrixFormat format, int tiles, int pieces>
struct FewGated {
  using Sum = FewSum<format, tiles, pieces>;
  static constexpr bool kJoined = format == MatrixFormat::kBf16;
  static constexpr int kRows = kJoined ? 8 : Sum::kRows, kSums = kJoined ? 1 : 2;
  Sum sum[kSums];

  template <typename Before>
  __device__ __forceinline__ void add(const FewMatrix& gate, const FewMatrix& up, int tile, const FewInput& x, int warp,
                                      int warps, const Before& before_x) {
    if constexpr (kJoined) {
      sum[0].add(typename Sum::Tile(gate, up, tile * kRows), x, warp, warps, before_x);
    } else {
      sum[0].add(gate, tile, x, warp, warps, before_x);
      sum[1].add(up, tile, x, warp, warps, [] {});
    }
  }
  // A barrier must follow. `shared`: kSums * warps * Sum::kValues floats.
  __device__ __forceinline__ void store(float* shared, int warp, int warps) const {
    VL2_UNROLL
    for (int i = 0; i < kSums; ++i) sum[i].store(shared + i * warps * Sum::kValues, warp);
  }
  // Row `row` of the tile for column `column` of x.
  static __device__ __forceinline__ float value(const float* shared, int row, int column, int warps) {
    const int at = column * Sum::kRows + row;
    const float g = sum_of_warps(shared, Sum::kValues, at, warps);
    const float u = kJoined ? sum_of_warps(shared, Sum::kValues, at + kRows, warps)
                            : sum_of_warps(shared + warps * Sum::kValues, Sum::kValues, at, warps);
    return silu(g) * u;
  }
};

}  // namespace vl2::cuda

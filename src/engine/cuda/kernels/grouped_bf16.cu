// Grouped products on tensor cores. A block multiplies 64 positions by 128 rows of W (64 where W is codes), or by half
// as many of W and the same ones of V, in steps of 64 k through shared memory; each of four warps has half of either.
//
// bf16 weights come by cp.async, a ring of stages ahead. Codes are loaded to registers while the step before is
// multiplied, and written to shared memory as the whole numbers they are; each group of 128 k is summed on its own and
// scaled. Rows in shared memory are 128 bytes, their 16-byte pieces swizzled so that ldmatrix meets no bank twice.
#include "engine/cuda/device/tensor_core.h"
#include "engine/cuda/kernels/codes.h"
#include "engine/cuda/kernels/grouped.h"
#include "engine/cuda/kernels/grouped_device.h"
#include "engine/cuda/kernels/grouped_launch.h"

namespace vl2::cuda {
namespace {

constexpr int kRows = 64, kDepth = 64, kThreads = 128;
constexpr int kRowBytes = kDepth * 2, kXBytes = kRows * kRowBytes;

// Codes need registers for a group's sum, and for what is being loaded.
template <MatrixFormat format>
inline constexpr int kCols = format == MatrixFormat::kBf16 ? 128 : 64;
template <MatrixFormat format>
inline constexpr int kStages = format == MatrixFormat::kBf16 ? 3 : 2;
template <MatrixFormat format>
inline constexpr int kStageBytes = kXBytes + kCols<format>* kRowBytes;

__device__ __forceinline__ unsigned char* piece(unsigned char* tile, int row, int i) {
  return tile + row * kRowBytes + ((i ^ row) & 7) * 16;
}

// What a thread fetches of one step's weights.
template <MatrixFormat format, bool gated>
struct Weights {
  static constexpr bool kCodes = format != MatrixFormat::kBf16;
  static constexpr int kLine = format == MatrixFormat::kQ4 ? 8 : 4;        // k of 64 bytes of codes
  static constexpr int kLines = kDepth / kLine, kPanelLoads = kLines * 4;  // of a panel
  static constexpr int kLoads = kCodes ? kCols<format> / 16 * kPanelLoads / kThreads : kCols<format> * 8 / kThreads;
  static constexpr int kWide = gated ? kCols<format> / 2 : kCols<format>;  // rows of W
  FewMatrix w, v;
  int column;  // first row of W
  int depth;   // k that are stored
  uint4 codes[kCodes ? kLoads : 1];

  // Row n of the tile is this row of W, or of V in the second half of a gated product.
  __device__ __forceinline__ int row_of_tile(int n) const { return column + n % kWide; }
  __device__ __forceinline__ const void* data(int n) const { return gated && n >= kWide ? v.data : w.data; }

  __device__ __forceinline__ void fetch(int k, unsigned char* tile) {
    const int thread = static_cast<int>(threadIdx.x);
    if constexpr (!kCodes) {
      VL2_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        const int n = thread / 8 + i * (kThreads / 8), row = row_of_tile(n), at = k + thread % 8 * 8;
        const bool valid = row < w.rows && at < depth;
        const auto* from = static_cast<const uint16_t*>(data(n)) + (valid ? row * w.stride + at : 0);
        async_copy16(piece(tile, n, thread % 8), from, valid);
      }
    } else {
      VL2_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        const int index = thread + i * kThreads, panel = index / kPanelLoads, line = index / 4 % kLines;
        const int row = row_of_tile(panel * 16);
        codes[i] = make_uint4(0, 0, 0, 0);
        if (row < w.rows && k < depth)
          codes[i] = __ldg(reinterpret_cast<const uint4*>(static_cast<const unsigned char*>(data(panel * 16)) +
                                                          row / 16 * w.stride + w.scale_bytes +
                                                          (k / kLine + line) * 64 + index % 4 * 16));
      }
    }
  }

  // Codes to shared memory.
  __device__ __forceinline__ void store(unsigned char* tile) const {
    if constexpr (kCodes) {
      const int thread = static_cast<int>(threadIdx.x);
      VL2_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        const int index = thread + i * kThreads, line = index / 4 % kLines;
        const int n = index / kPanelLoads * 16 + index % 4 * 4;
        const unsigned words[4] = {codes[i].x, codes[i].y, codes[i].z, codes[i].w};
        VL2_UNROLL
        for (int r = 0; r < 4; ++r) {
          if constexpr (format == MatrixFormat::kQ8) {
            *reinterpret_cast<uint2*>(piece(tile, n + r, line / 2) + line % 2 * 8) =
                make_uint2(q8_pair(words[r]), q8_pair(words[r] >> 8));
          } else {
            *reinterpret_cast<uint4*>(piece(tile, n + r, line)) =
                make_uint4(q4_pair(words[r]), q4_pair(words[r] >> 4), q4_pair(words[r] >> 8), q4_pair(words[r] >> 12));
          }
        }
      }
    }
  }
};

template <MatrixFormat format, bool gated>
__global__ void __launch_bounds__(kThreads, 3) grouped_bf16_kernel(GroupedArgs a) {
  constexpr bool kCodes = format != MatrixFormat::kBf16;
  constexpr int kAhead = kStages<format> - 1, kTiles = kCols<format> / 16;  // 8 rows of W each, of a warp
  constexpr int kHalf = kCols<format> / 2, kGatedTiles = kTiles / 2;
  VL2_DYNAMIC_SHARED(unsigned char, shared);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
  const GroupTile tile = find_tile(a, static_cast<int>(blockIdx.y), kRows);
  if (tile.count <= 0) return;
  Weights<format, gated> weights;
  choose_matrices(a, tile.group, weights.w, weights.v);
  const int cols = weights.w.cols, steps = (cols + kDepth - 1) / kDepth;
  weights.column = static_cast<int>(blockIdx.x) * Weights<format, gated>::kWide;
  weights.depth = kCodes ? steps * kDepth : static_cast<int>(weights.w.stride);

  // This thread's rows of x: thread / 8 + 16 i.
  const uint16_t* rows[kRows / 16];
  VL2_UNROLL
  for (int i = 0; i < kRows / 16; ++i) {
    const int row = thread / 8 + 16 * i;
    rows[i] = row < tile.count
                  ? static_cast<const uint16_t*>(a.x) + row_of(a, tile.begin + row) * a.x_stride + thread % 8 * 8
                  : nullptr;
  }
  const auto fetch_x = [&](int k, unsigned char* to) {
    VL2_UNROLL
    for (int i = 0; i < kRows / 16; ++i)
      async_copy16(piece(to, thread / 8 + 16 * i, thread % 8), rows[i] != nullptr ? rows[i] + k : a.x,
                   rows[i] != nullptr);
  };
  const auto stage = [&](int step) { return shared + step % kStages<format> * kStageBytes<format>; };

  const int row0 = warp % 2 * 32, half = warp / 2;
  // The tile's row of W where n-tile j of this warp begins.
  const auto column_of = [&](int j) {
    return gated ? j / kGatedTiles * kHalf + half * kHalf / 2 + j % kGatedTiles * 8 : half * kHalf + j * 8;
  };
  float sum[2][kTiles][4] = {}, part[2][kCodes ? kTiles : 1][4] = {};
  unsigned scales[kCodes ? kTiles : 1] = {};

  VL2_UNROLL
  for (int s = 0; s < kAhead; ++s) {
    if (s < steps) {
      fetch_x(s * kDepth, stage(s));
      weights.fetch(s * kDepth, stage(s) + kXBytes);
      weights.store(stage(s) + kXBytes);
    }
    async_commit();
  }
  for (int step = 0; step < steps; ++step) {
    async_wait<kAhead - 1>();
    __syncthreads();
    const int next = step + kAhead;
    if (next < steps) {
      fetch_x(next * kDepth, stage(next));
      weights.fetch(next * kDepth, stage(next) + kXBytes);
    }
    async_commit();
    if constexpr (kCodes) {
      if (step % 2 == 0) {
        VL2_UNROLL
        for (int j = 0; j < kTiles; ++j) {
          const int row = weights.row_of_tile(column_of(j));
          scales[j] = row < weights.w.rows ? __ldg(reinterpret_cast<const unsigned*>(
                                                 static_cast<const unsigned char*>(weights.data(column_of(j))) +
                                                 row / 16 * weights.w.stride + step / 2 * 32 + (row % 16 + 2 * t) * 2))
                                           : 0;
        }
      }
    }
    unsigned char *xs = stage(step), *ws = xs + kXBytes;
    VL2_UNROLL
    for (int ks = 0; ks < kDepth / 16; ++ks) {
      unsigned left[2][4];
      VL2_UNROLL
      for (int m = 0; m < 2; ++m) load_matrix_x4(left[m], piece(xs, row0 + m * 16 + lane % 16, ks * 2 + lane / 16));
      VL2_UNROLL
      for (int j = 0; j < kTiles; j += 2) {
        unsigned right[4];
        load_matrix_x4(right, piece(ws, column_of(j + lane / 16) + lane % 8, ks * 2 + lane / 8 % 2));
        VL2_UNROLL
        for (int n = 0; n < 2; ++n) {
          const unsigned b[2] = {right[2 * n], right[2 * n + 1]};
          VL2_UNROLL
          for (int m = 0; m < 2; ++m) mma_bf16(kCodes ? part[m][kCodes ? j + n : 0] : sum[m][j + n], left[m], b);
        }
      }
    }
    if constexpr (kCodes) {
      if (step % 2 == 1 || step + 1 == steps) {
        VL2_UNROLL
        for (int m = 0; m < 2; ++m) {
          VL2_UNROLL
          for (int j = 0; j < kTiles; ++j) {
            VL2_UNROLL
            for (int i = 0; i < 4; ++i) {
              sum[m][j][i] += (i % 2 == 0 ? bf16_low(scales[j]) : bf16_high(scales[j])) * part[m][j][i];
              part[m][j][i] = 0;
            }
          }
        }
      }
      if (next < steps) weights.store(stage(next) + kXBytes);
    }
  }

  VL2_UNROLL
  for (int m = 0; m < 2; ++m) {
    VL2_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = row0 + m * 16 + g + i / 2 * 8;
      if (row >= tile.count) continue;
      const int64_t begin = (tile.begin + row) * a.out_stride;
      VL2_UNROLL
      for (int j = 0; j < (gated ? kGatedTiles : kTiles); ++j) {
        const int column = weights.column + column_of(j) + 2 * t + i % 2;
        if constexpr (gated) {
          // Beyond the last row of W these are the zeros that pad the next product's rows.
          static_cast<uint16_t*>(a.out)[begin + packed_place<format>(column)] =
              float_bf16(silu(sum[m][j][i]) * sum[m][gated ? j + kGatedTiles : j][i]);
        } else if (column < weights.w.rows) {
          float* out = static_cast<float*>(a.out) + begin + column;
          const float value = sum[m][j][i] + (a.bias != nullptr ? a.bias[column] : 0.0f);
          *out = a.add ? *out + value : value;
        }
      }
    }
  }
}

// Eight values a thread.
template <MatrixFormat format>
__global__ void __launch_bounds__(256)
    pack_rows_kernel(uint16_t* out, const float* x, int64_t x_stride, int rows, int cols, int packed, bool aligned) {
  const int pieces = packed / 8;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (index >= static_cast<int64_t>(rows) * pieces) return;
  const int64_t row = index / pieces;
  const int k = static_cast<int>(index % pieces) * 8;
  float v[8], ordered[8];
  load4(v, 0, x + row * x_stride, k, cols, aligned);
  load4(v, 4, x + row * x_stride, k + 4, cols, aligned);
  VL2_UNROLL
  for (int i = 0; i < 8; ++i) ordered[packed_place<format>(i)] = v[i];
  *reinterpret_cast<uint4*>(out + row * packed + k) =
      make_uint4(bf16_pair(ordered[0], ordered[1]), bf16_pair(ordered[2], ordered[3]),
                 bf16_pair(ordered[4], ordered[5]), bf16_pair(ordered[6], ordered[7]));
}

template <MatrixFormat format>
void launch_grouped(Stream stream, const Grouped& a) {
  const GroupedArgs args = grouped_args(a);
  constexpr size_t kShared = kStages<format> * kStageBytes<format>;
  const int64_t wide = a.v.rows > 0 ? kCols<format> / 2 : kCols<format>;
  // A gated product's zeros up to packed_cols() are written by blocks like any other.
  const int64_t cols = a.v.rows > 0 ? packed_cols(a.w.rows) : a.w.rows;
  const dim3 grid(static_cast<unsigned>((cols + wide - 1) / wide), row_tiles(a, kRows));
  if (a.v.rows > 0) {
    VL2_LAUNCH((grouped_bf16_kernel<format, true>), grid, kThreads, kShared, stream, args);
  } else {
    VL2_LAUNCH((grouped_bf16_kernel<format, false>), grid, kThreads, kShared, stream, args);
  }
}

}  // namespace

void grouped_bf16(Stream stream, const Grouped& a) {
  // Fewer rows do not fill half of the smallest tile there, and weights come from memory as fast here.
  constexpr int64_t kLeastRows = 32;
  const bool many = a.positions >= kLeastRows * std::max<int64_t>(a.groups, 1);
  if (a.w.format == MatrixFormat::kBf16 && many && current_device().major == 9 && grouped_warpgroups_run())
    return grouped_warpgroups(stream, a);
  grouped_warps(stream, a);
}

void grouped_warps(Stream stream, const Grouped& a) {
  if (a.positions == 0 || a.w.rows == 0) return;
  switch (a.w.format) {
    case MatrixFormat::kBf16:
      return launch_grouped<MatrixFormat::kBf16>(stream, a);
    case MatrixFormat::kQ8:
      return launch_grouped<MatrixFormat::kQ8>(stream, a);
    case MatrixFormat::kQ4:
      return launch_grouped<MatrixFormat::kQ4>(stream, a);
    case MatrixFormat::kF32:
      break;
  }
  fail(ErrorCode::kInternal, "[cuda] float32 matrices are multiplied in float32");
}

void pack_rows(Stream stream, Bf16Bits* out, const float* x, int64_t x_stride, int64_t rows, int64_t cols,
               MatrixFormat format) {
  if (rows == 0) return;
  const int64_t packed = packed_cols(cols);
  const auto blocks = static_cast<unsigned>((rows * packed / 8 + 255) / 256);
  const auto with = [&](auto kernel) {
    launch("pack_rows_kernel", kernel, blocks, 256, 0, stream, out, x, x_stride, static_cast<int>(rows),
           static_cast<int>(cols), static_cast<int>(packed), rows_aligned(x, x_stride));
  };
  if (format == MatrixFormat::kQ8) return with(pack_rows_kernel<MatrixFormat::kQ8>);
  if (format == MatrixFormat::kQ4) return with(pack_rows_kernel<MatrixFormat::kQ4>);
  with(pack_rows_kernel<MatrixFormat::kBf16>);
}

size_t many_rows_scratch_bytes(int64_t rows, int64_t cols) {
  return static_cast<size_t>(rows * packed_cols(cols)) * sizeof(Bf16Bits);
}

void linear_many_rows(Stream stream, const ManyRowsLinear& a) {
  Grouped g;
  g.positions = a.rows;
  g.w = a.w;
  g.out = a.out, g.out_stride = a.out_stride;
  g.bias = a.bias, g.add = a.add;
  if (a.exact || a.w.format == MatrixFormat::kF32) {
    g.x = a.x, g.x_stride = a.x_stride;
    return grouped_exact(stream, g);
  }
  g.x = a.scratch, g.x_stride = packed_cols(a.w.cols);
  pack_rows(stream, static_cast<Bf16Bits*>(a.scratch), a.x, a.x_stride, a.rows, a.w.cols, a.w.format);
  grouped_bf16(stream, g);
}

}  // namespace vl2::cuda

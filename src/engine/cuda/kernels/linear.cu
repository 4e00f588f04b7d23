// Few rows times any matrix: decode steps.
#include "engine/cuda/kernels/few_rows.h"
#include "engine/cuda/kernels/few_rows_launch.h"
#include "engine/cuda/kernels/linear.h"

namespace vl2::cuda {
namespace {

struct LinearArgs {
  float* out;
  const float* x;
  int64_t out_stride, x_stride;
  int rows;
  const float* bias;
  bool add, aligned;
};

__device__ __forceinline__ FewInput few_input(const float* x, int64_t stride, int rows, int tiles, bool aligned) {
  const int g = static_cast<int>(threadIdx.x % 32) / 4;
  return {{x + min(g, rows - 1) * stride, tiles > 1 ? x + min(g + 8, rows - 1) * stride : nullptr}, aligned};
}

template <MatrixFormat format, int tiles, int pieces>
__global__ void __launch_bounds__(kMostWarps * 32, blocks_of_few(format, tiles, pieces))
    linear_kernel(LinearArgs args, FewMatrix w) {
  using Sum = FewSum<format, tiles, pieces>;
  VL2_DYNAMIC_SHARED(float, shared);
  const int warp = static_cast<int>(threadIdx.x / 32), warps = static_cast<int>(blockDim.x / 32);
  const int tile = static_cast<int>(blockIdx.x);
  Sum sum;
  sum.add(w, tile, few_input(args.x, args.x_stride, args.rows, tiles, args.aligned), warp, warps,
          [] { await_earlier_kernels(); });
  sum.store(shared, warp);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < Sum::kRows * args.rows; i += static_cast<int>(blockDim.x)) {
    const int row = tile * Sum::kRows + i % Sum::kRows;
    if (row >= w.rows) continue;
    float value = sum_of_warps(shared, Sum::kValues, i, warps);
    if (args.bias != nullptr) value += args.bias[row];
    float* out = args.out + i / Sum::kRows * args.out_stride + row;
    *out = args.add ? *out + value : value;
  }
}

// One of several matrices that read the same rows.
struct LinearPart {
  FewMatrix w;
  float* out;
  int64_t out_stride;
  const float* bias;
  int first_tile;
  bool add;
};
struct LinearParts {
  LinearPart part[3];  // of fewer, the rest begins behind the last tile
};

template <MatrixFormat format, int tiles, int pieces>
__global__ void __launch_bounds__(kMostWarps * 32, blocks_of_few(format, tiles, pieces))
    linear_parts_kernel(LinearArgs args, LinearParts parts) {
  using Sum = FewSum<format, tiles, pieces>;
  VL2_DYNAMIC_SHARED(float, shared);
  const int warp = static_cast<int>(threadIdx.x / 32), warps = static_cast<int>(blockDim.x / 32);
  LinearPart part = parts.part[0];
  if (static_cast<int>(blockIdx.x) >= parts.part[1].first_tile) part = parts.part[1];
  if (static_cast<int>(blockIdx.x) >= parts.part[2].first_tile) part = parts.part[2];
  const int tile = static_cast<int>(blockIdx.x) - part.first_tile;
  Sum sum;
  sum.add(part.w, tile, few_input(args.x, args.x_stride, args.rows, tiles, args.aligned), warp, warps,
          [] { await_earlier_kernels(); });
  sum.store(shared, warp);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < Sum::kRows * args.rows; i += static_cast<int>(blockDim.x)) {
    const int row = tile * Sum::kRows + i % Sum::kRows;
    if (row >= part.w.rows) continue;
    float value = sum_of_warps(shared, Sum::kValues, i, warps);
    if (part.bias != nullptr) value += part.bias[row];
    float* out = part.out + i / Sum::kRows * part.out_stride + row;
    *out = part.add ? *out + value : value;
  }
}

template <MatrixFormat format, int tiles, int pieces>
__global__ void __launch_bounds__(kMostWarps * 32, blocks_of_few(format, tiles, pieces))
    gated_kernel(LinearArgs args, FewMatrix gate, FewMatrix up) {
  using Gated = FewGated<format, tiles, pieces>;
  VL2_DYNAMIC_SHARED(float, shared);
  const int warp = static_cast<int>(threadIdx.x / 32), warps = static_cast<int>(blockDim.x / 32);
  const int tile = static_cast<int>(blockIdx.x);
  Gated sum;
  sum.add(gate, up, tile, few_input(args.x, args.x_stride, args.rows, tiles, args.aligned), warp, warps,
          [] { await_earlier_kernels(); });
  sum.store(shared, warp, warps);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < Gated::kRows * args.rows; i += static_cast<int>(blockDim.x)) {
    const int row = tile * Gated::kRows + i % Gated::kRows;
    if (row < gate.rows)
      args.out[i / Gated::kRows * args.out_stride + row] =
          Gated::value(shared, i % Gated::kRows, i / Gated::kRows, warps);
  }
}

// float32: a warp for each row of W, four rows of x at a time.
constexpr int kF32Warps = 8, kF32Rows = 4;

__global__ void __launch_bounds__(kF32Warps * 32) linear_f32_kernel(LinearArgs args, FewMatrix w) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int row = static_cast<int>(blockIdx.x * kF32Warps + threadIdx.x / 32);
  const int begin = static_cast<int>(blockIdx.y) * kF32Rows;
  if (row >= w.rows) return;
  const float* weights = static_cast<const float*>(w.data) + row * w.stride;
  float sum[kF32Rows] = {};
  for (int k = lane * 4; k < w.cols; k += 128) {
    const float4 v = __ldcs(reinterpret_cast<const float4*>(weights + k));
    VL2_UNROLL
    for (int t = 0; t < kF32Rows; ++t) {
      float x[8];
      load4(x, 0, args.x + min(begin + t, args.rows - 1) * args.x_stride, k, w.cols, args.aligned);
      sum[t] = fmaf(v.x, x[0], fmaf(v.y, x[1], fmaf(v.z, x[2], fmaf(v.w, x[3], sum[t]))));
    }
  }
  VL2_UNROLL
  for (int t = 0; t < kF32Rows; ++t) {
    float value = warp_sum(sum[t]);
    if (lane != 0 || begin + t >= args.rows) continue;
    if (args.bias != nullptr) value += args.bias[row];
    float* out = args.out + (begin + t) * args.out_stride + row;
    *out = args.add ? *out + value : value;
  }
}

// Eight k of a row for each thread, 16 rows by 128 k for each block.
template <MatrixFormat format, typename Out>
__global__ void __launch_bounds__(256) dequantise_kernel(Out* out, int64_t out_stride, FewMatrix w) {
  const int row = static_cast<int>(blockIdx.x * 16 + threadIdx.x / 16);
  const int k = static_cast<int>(blockIdx.y * 128 + threadIdx.x % 16 * 8);
  if (row >= w.rows || k >= out_stride) return;
  float v[8] = {};
  const unsigned char* data = static_cast<const unsigned char*>(w.data);
  if (format == MatrixFormat::kF32 || format == MatrixFormat::kBf16) {
    for (int i = 0; i < 8; ++i) {
      if (k + i >= w.cols) break;
      v[i] = format == MatrixFormat::kF32 ? reinterpret_cast<const float*>(data)[row * w.stride + k + i]
                                          : bf16_float(reinterpret_cast<const uint16_t*>(data)[row * w.stride + k + i]);
    }
  } else if (k < w.cols) {
    const unsigned char* panel = data + row / 16 * w.stride;
    const int r = row % 16;
    const float scale = bf16_float(reinterpret_cast<const uint16_t*>(panel)[k / kUnit * 16 + r]);
    const unsigned char* codes = panel + w.scale_bytes;
    unsigned pairs[4];
    if (format == MatrixFormat::kQ8) {
      const auto first = *reinterpret_cast<const unsigned*>(codes + k / 4 * 64 + r * 4);
      const auto second = *reinterpret_cast<const unsigned*>(codes + k / 4 * 64 + 64 + r * 4);
      pairs[0] = q8_pair(first), pairs[1] = q8_pair(first >> 8);
      pairs[2] = q8_pair(second), pairs[3] = q8_pair(second >> 8);
    } else {
      const auto word = *reinterpret_cast<const unsigned*>(codes + k / 8 * 64 + r * 4);
      pairs[0] = q4_pair(word), pairs[1] = q4_pair(word >> 8);
      pairs[2] = q4_pair(word >> 4), pairs[3] = q4_pair(word >> 12);
    }
    VL2_UNROLL
    for (int i = 0; i < 2; ++i) {
      v[4 * i] = scale * bf16_low(pairs[2 * i]), v[4 * i + 1] = scale * bf16_low(pairs[2 * i + 1]);
      v[4 * i + 2] = scale * bf16_high(pairs[2 * i]), v[4 * i + 3] = scale * bf16_high(pairs[2 * i + 1]);
    }
    VL2_UNROLL
    for (int i = 0; i < 8; ++i)
      if (k + i >= w.cols) v[i] = 0;
  }
  Out* to = out + row * out_stride + k;
  if constexpr (sizeof(Out) == 2) {
    *reinterpret_cast<uint4*>(to) =
        make_uint4(bf16_pair(v[0], v[1]), bf16_pair(v[2], v[3]), bf16_pair(v[4], v[5]), bf16_pair(v[6], v[7]));
  } else {
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
    *reinterpret_cast<float4*>(to + 4) = make_float4(v[4], v[5], v[6], v[7]);
  }
}

template <typename Out>
void dequantise_to(Stream stream, Out* out, int64_t out_stride, const MatrixView& w) {
  VL2_CHECK(out_stride % 8 == 0 && out_stride >= w.cols && reinterpret_cast<uintptr_t>(out) % 16 == 0);
  if (w.rows == 0 || w.cols == 0) return;
  const dim3 grid(static_cast<unsigned>((w.rows + 15) / 16), static_cast<unsigned>((out_stride + 127) / 128));
  const FewMatrix m = few_matrix(w);
  switch (w.format) {
    case MatrixFormat::kF32:
      return VL2_LAUNCH((dequantise_kernel<MatrixFormat::kF32, Out>), grid, 256, 0, stream, out, out_stride, m);
    case MatrixFormat::kBf16:
      return VL2_LAUNCH((dequantise_kernel<MatrixFormat::kBf16, Out>), grid, 256, 0, stream, out, out_stride, m);
    case MatrixFormat::kQ8:
      return VL2_LAUNCH((dequantise_kernel<MatrixFormat::kQ8, Out>), grid, 256, 0, stream, out, out_stride, m);
    case MatrixFormat::kQ4:
      return VL2_LAUNCH((dequantise_kernel<MatrixFormat::kQ4, Out>), grid, 256, 0, stream, out, out_stride, m);
  }
}

}  // namespace

void linear_few_rows(Stream stream, const FewRowsLinear& a) {
  if (a.rows == 0 || a.w.rows == 0) return;
  const FewMatrix w = few_matrix(a.w);
  LinearArgs args{a.out, a.x, a.out_stride, a.x_stride, 0, a.bias, a.add, rows_aligned(a.x, a.x_stride)};
  if (a.w.format == MatrixFormat::kF32) {
    args.rows = static_cast<int>(a.rows);
    const dim3 grid(static_cast<unsigned>((a.w.rows + kF32Warps - 1) / kF32Warps),
                    static_cast<unsigned>((a.rows + kF32Rows - 1) / kF32Rows));
    return VL2_LAUNCH(linear_f32_kernel, grid, kF32Warps * 32, 0, stream, args, w);
  }
  const int blocks = few_tiles(a.w), warps = few_warps(blocks, a.w.cols);
  for (int64_t begin = 0; begin < a.rows; begin += kFewRows) {
    args.rows = static_cast<int>(std::min<int64_t>(kFewRows, a.rows - begin));
    args.out = a.out + begin * a.out_stride;
    args.x = a.x + begin * a.x_stride;
    for_few_rows(a.w.format, args.rows > 8, a.exact, [&]<MatrixFormat format, int tiles, int pieces>() {
      const size_t shared = static_cast<size_t>(warps * FewSum<format, tiles, pieces>::kValues) * sizeof(float);
      VL2_LAUNCH_EARLY((linear_kernel<format, tiles, pieces>), static_cast<unsigned>(blocks),
                       static_cast<unsigned>(warps * 32), shared, stream, args, w);
    });
  }
}

bool linear_few_rows(Stream stream, std::span<const FewRowsLinear> all) {
  if (all.size() < 2 || all.size() > 3) return false;
  const FewRowsLinear& a = all.front();
  for (const FewRowsLinear& other : all)
    if (other.w.format != a.w.format || other.w.cols != a.w.cols || other.x != a.x || other.rows != a.rows ||
        other.x_stride != a.x_stride || other.exact != a.exact || other.w.rows == 0)
      return false;
  if (a.w.format == MatrixFormat::kF32 || a.rows == 0 || a.rows > kFewRows) return false;
  LinearParts parts{};
  int blocks = 0;
  for (size_t i = 0; i < 3; ++i) {
    parts.part[i].first_tile = blocks;
    if (i >= all.size()) continue;
    parts.part[i] = {few_matrix(all[i].w), all[i].out, all[i].out_stride, all[i].bias, blocks, all[i].add};
    blocks += few_tiles(all[i].w);
  }
  const LinearArgs args{
      nullptr, a.x, 0, a.x_stride, static_cast<int>(a.rows), nullptr, false, rows_aligned(a.x, a.x_stride)};
  const int warps = few_warps(blocks, a.w.cols);
  for_few_rows(a.w.format, a.rows > 8, a.exact, [&]<MatrixFormat format, int tiles, int pieces>() {
    const size_t shared = static_cast<size_t>(warps * FewSum<format, tiles, pieces>::kValues) * sizeof(float);
    VL2_LAUNCH_EARLY((linear_parts_kernel<format, tiles, pieces>), static_cast<unsigned>(blocks),
                     static_cast<unsigned>(warps * 32), shared, stream, args, parts);
  });
  return true;
}

void gated_few_rows(Stream stream, const FewRowsGated& a) {
  VL2_CHECK(a.gate.format == a.up.format && a.gate.rows == a.up.rows && a.gate.cols == a.up.cols);
  if (a.rows == 0 || a.gate.rows == 0) return;
  VL2_CHECK(a.gate.format != MatrixFormat::kF32, "[cuda] float32 blocks go part by part");
  const FewMatrix gate = few_matrix(a.gate), up = few_matrix(a.up);
  const int blocks = few_gated_tiles(a.gate), warps = few_warps(blocks, a.gate.cols);
  LinearArgs args{a.hidden, a.x, a.hidden_stride, a.x_stride, 0, nullptr, false, rows_aligned(a.x, a.x_stride)};
  for (int64_t begin = 0; begin < a.rows; begin += kFewRows) {
    args.rows = static_cast<int>(std::min<int64_t>(kFewRows, a.rows - begin));
    args.out = a.hidden + begin * a.hidden_stride;
    args.x = a.x + begin * a.x_stride;
    for_few_rows(a.gate.format, args.rows > 8, a.exact, [&]<MatrixFormat format, int tiles, int pieces>() {
      using Gated = FewGated<format, tiles, pieces>;
      const size_t shared = static_cast<size_t>(Gated::kSums * warps * Gated::Sum::kValues) * sizeof(float);
      VL2_LAUNCH_EARLY((gated_kernel<format, tiles, pieces>), static_cast<unsigned>(blocks),
                       static_cast<unsigned>(warps * 32), shared, stream, args, gate, up);
    });
  }
}

void dequantise(Stream stream, Bf16Bits* out, int64_t out_stride, const MatrixView& w) {
  dequantise_to(stream, out, out_stride, w);
}
void dequantise(Stream stream, float* out, int64_t out_stride, const MatrixView& w) {
  dequantise_to(stream, out, out_stride, w);
}

}  // namespace vl2::cuda

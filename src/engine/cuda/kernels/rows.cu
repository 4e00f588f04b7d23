#include <algorithm>

#include "engine/cuda/device/kernel_language.h"
#include "engine/cuda/device/reduce.h"
#include "engine/cuda/kernels/rows.h"

namespace vl2::cuda {
namespace {

// A thread's values of a row, a block apart from each other: loads are coalesced and several are in flight.
constexpr int kValues = 4;

unsigned threads_for(int64_t cols) { return cols <= 32 ? 32 : cols <= 128 ? 64 : 256; }

// Blocks: one for each row and head, and as many along the columns as it takes.
struct Pieces {
  dim3 grid, block;
};
Pieces pieces(int64_t rows, int64_t cols) {
  const unsigned threads = threads_for(cols);
  const auto along = static_cast<unsigned>((cols + threads * kValues - 1) / (threads * kValues));
  return {dim3(static_cast<unsigned>(rows), along), dim3(threads)};
}

// fn(column) for this thread's columns.
template <typename Fn>
__device__ __forceinline__ void each_column(int64_t cols, const Fn& fn) {
  const int64_t first = static_cast<int64_t>(blockIdx.y) * blockDim.x * kValues + threadIdx.x;
  VL2_UNROLL
  for (int i = 0; i < kValues; ++i) {
    const int64_t c = first + static_cast<int64_t>(i) * blockDim.x;
    if (c < cols) fn(c);
  }
}

__device__ __forceinline__ float* row_of(const RowsView& x, int64_t row) { return x.data + row * x.row_stride; }
__device__ __forceinline__ float* head_of(const RowsView& x, int64_t index) {
  return x.data + index / x.heads * x.row_stride + index % x.heads * x.head_stride;
}
__device__ __forceinline__ float stored(const TableView& table, int64_t at) {
  return table.bf16 ? bf16_float(static_cast<const uint16_t*>(table.data)[at])
                    : static_cast<const float*>(table.data)[at];
}

__global__ void embed_kernel(RowsView out, TableView table, const int32_t* ids) {
  await_earlier_kernels();
  const int64_t t = blockIdx.x, first = ids[t] * table.cols;
  each_column(table.cols, [&](int64_t c) { row_of(out, t)[c] = stored(table, first + c); });
}

__global__ void gather_kernel(RowsView out, RowsView x, const int32_t* rows) {
  await_earlier_kernels();
  const int64_t i = blockIdx.x;
  each_column(x.cols, [&](int64_t c) { row_of(out, i)[c] = row_of(x, rows[i])[c]; });
}

__global__ void scatter_kernel(RowsView out, RowsView x, const int32_t* rows) {
  await_earlier_kernels();
  const int64_t i = blockIdx.x;
  each_column(x.cols, [&](int64_t c) { row_of(out, rows[i])[c] = row_of(x, i)[c]; });
}

__global__ void add_rows_kernel(RowsView x, TableView table) {
  await_earlier_kernels();
  const int64_t t = blockIdx.x, first = t % table.rows * table.cols;
  each_column(x.cols, [&](int64_t c) { row_of(x, t)[c] += stored(table, first + c); });
}

__global__ void add_kernel(RowsView x, RowsView y) {
  await_earlier_kernels();
  float* a = head_of(x, blockIdx.x);
  const float* b = head_of(y, blockIdx.x);
  each_column(x.cols, [&](int64_t c) { a[c] += b[c]; });
}

__global__ void rms_norm_kernel(RowsView out, RowsView x, const float* weight, float eps) {
  await_earlier_kernels();
  __shared__ float scratch[32];
  const float* in = head_of(x, blockIdx.x);
  float* to = head_of(out, blockIdx.x);
  float sum = 0;
  for (int64_t c = threadIdx.x; c < x.cols; c += blockDim.x) sum += in[c] * in[c];
  sum = block_sum(sum, scratch);
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(x.cols) + eps);
  for (int64_t c = threadIdx.x; c < x.cols; c += blockDim.x) to[c] = in[c] * scale * weight[c];
}

// Rows that begin at multiples of 16 bytes, up to 4 * kNormParts * threads wide: read once.
constexpr int kNormParts = 4;
__global__ void __launch_bounds__(256)
    rms_norm_vector_kernel(RowsView out, RowsView x, const float* weight, float eps) {
  __shared__ float scratch[32];
  const float4* in = reinterpret_cast<const float4*>(head_of(x, blockIdx.x));
  float4* to = reinterpret_cast<float4*>(head_of(out, blockIdx.x));
  const int parts = static_cast<int>(x.cols) / 4, first = static_cast<int>(threadIdx.x);
  float4 v[kNormParts], w[kNormParts];
  float sum = 0;
  VL2_UNROLL
  for (int i = 0; i < kNormParts; ++i) {
    const int at = first + i * static_cast<int>(blockDim.x);
    w[i] = make_float4(0, 0, 0, 0);
    if (at < parts) w[i] = __ldg(reinterpret_cast<const float4*>(weight) + at);
  }
  await_earlier_kernels();
  VL2_UNROLL
  for (int i = 0; i < kNormParts; ++i) {
    const int at = first + i * static_cast<int>(blockDim.x);
    v[i] = at < parts ? in[at] : make_float4(0, 0, 0, 0);
  }
  VL2_UNROLL
  for (int i = 0; i < kNormParts; ++i) sum += v[i].x * v[i].x + v[i].y * v[i].y + (v[i].z * v[i].z + v[i].w * v[i].w);
  const float scale = 1.0f / sqrtf(block_sum(sum, scratch) / static_cast<float>(x.cols) + eps);
  VL2_UNROLL
  for (int i = 0; i < kNormParts; ++i) {
    const int at = first + i * static_cast<int>(blockDim.x);
    if (at < parts)
      to[at] = make_float4(v[i].x * scale * w[i].x, v[i].y * scale * w[i].y, v[i].z * scale * w[i].z,
                           v[i].w * scale * w[i].w);
  }
}

// Out: where a row's values go, store(column, value).
struct FloatRows {
  RowsView rows;
  __device__ __forceinline__ int64_t cols() const { return rows.cols; }
  __device__ __forceinline__ void store(int64_t row, int64_t c, float value) const { head_of(rows, row)[c] = value; }
};
struct RoundedRows {
  uint16_t* data;
  int64_t stride;
  __device__ __forceinline__ int64_t cols() const { return stride; }
  __device__ __forceinline__ void store(int64_t row, int64_t c, float value) const {
    data[row * stride + c] = float_bf16(value);
  }
};

// Rows of up to kHeld * blockDim are read once.
constexpr int kHeld = 8;
template <typename Out>
__global__ void __launch_bounds__(256)
    layer_norm_kernel(Out out, RowsView x, const float* weight, const float* bias, float eps) {
  await_earlier_kernels();
  __shared__ float scratch[32];
  const float* in = head_of(x, blockIdx.x);
  const auto threads = static_cast<int64_t>(blockDim.x), thread = static_cast<int64_t>(threadIdx.x);
  const int64_t beyond = kHeld * threads + thread;
  float held[kHeld], sum = 0, squares = 0;
  VL2_UNROLL
  for (int i = 0; i < kHeld; ++i) {
    held[i] = thread + i * threads < x.cols ? in[thread + i * threads] : 0.0f;
    sum += held[i];
  }
  for (int64_t c = beyond; c < x.cols; c += threads) sum += in[c];
  const float mean = block_sum(sum, scratch) / static_cast<float>(x.cols);
  VL2_UNROLL
  for (int i = 0; i < kHeld; ++i)
    if (thread + i * threads < x.cols) squares += (held[i] - mean) * (held[i] - mean);
  for (int64_t c = beyond; c < x.cols; c += threads) squares += (in[c] - mean) * (in[c] - mean);
  const float scale = 1.0f / sqrtf(block_sum(squares, scratch) / static_cast<float>(x.cols) + eps);
  VL2_UNROLL
  for (int i = 0; i < kHeld; ++i) {
    const int64_t c = thread + i * threads;
    if (c < x.cols) out.store(blockIdx.x, c, (held[i] - mean) * scale * weight[c] + bias[c]);
  }
  for (int64_t c = beyond; c < x.cols; c += threads)
    out.store(blockIdx.x, c, (in[c] - mean) * scale * weight[c] + bias[c]);
  for (int64_t c = x.cols + thread; c < out.cols(); c += threads) out.store(blockIdx.x, c, 0.0f);
}

// A warp for each row of up to 128 * kNormLoads columns that begins at a multiple of 16 bytes.
constexpr int kNormLoads = 12, kNormWarps = 4;
__global__ void __launch_bounds__(kNormWarps * 32)
    layer_norm_warp_kernel(uint16_t* out, int64_t out_stride, RowsView x, const float* weight, const float* bias,
                           float eps) {
  await_earlier_kernels();
  const int lane = static_cast<int>(threadIdx.x % 32), parts = static_cast<int>(x.cols) / 4;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kNormWarps + threadIdx.x / 32;
  if (row >= x.rows) return;
  const float4* in = reinterpret_cast<const float4*>(row_of(x, row));
  float4 v[kNormLoads];
  float sum = 0, squares = 0;
  VL2_UNROLL
  for (int i = 0; i < kNormLoads; ++i) {
    v[i] = lane + 32 * i < parts ? in[lane + 32 * i] : make_float4(0, 0, 0, 0);
    sum += (v[i].x + v[i].y) + (v[i].z + v[i].w);
  }
  const float mean = warp_sum(sum) / static_cast<float>(x.cols);
  VL2_UNROLL
  for (int i = 0; i < kNormLoads; ++i) {
    v[i].x -= mean, v[i].y -= mean, v[i].z -= mean, v[i].w -= mean;
    if (lane + 32 * i < parts) squares += (v[i].x * v[i].x + v[i].y * v[i].y) + (v[i].z * v[i].z + v[i].w * v[i].w);
  }
  const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(x.cols) + eps);
  VL2_UNROLL
  for (int i = 0; i < kNormLoads; ++i) {
    const int at = lane + 32 * i;
    if (at >= parts) continue;
    const float4 w = __ldg(reinterpret_cast<const float4*>(weight) + at);
    const float4 b = __ldg(reinterpret_cast<const float4*>(bias) + at);
    *reinterpret_cast<uint2*>(out + row * out_stride + at * 4) =
        make_uint2(bf16_pair(v[i].x * scale * w.x + b.x, v[i].y * scale * w.y + b.y),
                   bf16_pair(v[i].z * scale * w.z + b.z, v[i].w * scale * w.w + b.w));
  }
}

__global__ void gelu_kernel(RowsView x, bool tanh_form) {
  await_earlier_kernels();
  float* row = row_of(x, blockIdx.x);
  each_column(x.cols, [&](int64_t c) {
    const float v = row[c];
    const float inner = 0.79788456080286536f * (v + 0.044715f * v * v * v);
    row[c] = 0.5f * v * (1.0f + (tanh_form ? tanhf(inner) : erff(v * 0.70710678118654752f)));
  });
}

__global__ void silu_mul_kernel(RowsView gate, RowsView up) {
  await_earlier_kernels();
  float* g = row_of(gate, blockIdx.x);
  const float* u = row_of(up, blockIdx.x);
  each_column(gate.cols, [&](int64_t c) { g[c] = g[c] / (1.0f + expf(-g[c])) * u[c]; });
}

// A block rotates heads of one row, `at_once` of them side by side: all, or (few rows) those of its part of the grid.
// Interleaved pairs move to other places: a head is read before any of it is written.
__global__ void rope_kernel(RowsView x, RowsView y, RowsView cos, RowsView sin, int heads, int at_once,
                            bool interleaved) {
  await_earlier_kernels();
  const int64_t row = blockIdx.x, half = x.cols / 2;
  const int thread = static_cast<int>(threadIdx.x), k = thread % static_cast<int>(half),
            mine = thread / static_cast<int>(half);
  const bool turns = mine < at_once;
  const float c = turns ? row_of(cos, row)[k] : 0.0f, s = turns ? row_of(sin, row)[k] : 0.0f;
  for (int first = static_cast<int>(blockIdx.y) * at_once; first < heads;
       first += static_cast<int>(gridDim.y) * at_once) {
    const int head = first + mine;
    const bool there = turns && head < heads;
    float* v = nullptr;
    float a = 0, b = 0;
    if (there) {
      v = head < x.heads ? row_of(x, row) + head * x.head_stride : row_of(y, row) + (head - x.heads) * y.head_stride;
      a = v[interleaved ? 2 * k : k], b = v[interleaved ? 2 * k + 1 : k + half];
    }
    if (interleaved) __syncthreads();
    if (there) {
      v[k] = a * c - b * s;
      v[k + half] = b * c + a * s;
    }
  }
}

// Eight values a thread.
__global__ void __launch_bounds__(256)
    round_vectors_kernel(uint16_t* out, int64_t out_stride, RowsView x, int64_t chunks) {
  await_earlier_kernels();
  const int64_t index = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (index >= x.rows * chunks) return;
  const int64_t row = index / chunks, c = (index - row * chunks) * 8;
  const float4* from = reinterpret_cast<const float4*>(row_of(x, row) + c);
  const float4 a = from[0], b = from[1];
  *reinterpret_cast<uint4*>(out + row * out_stride + c) =
      make_uint4(bf16_pair(a.x, a.y), bf16_pair(a.z, a.w), bf16_pair(b.x, b.y), bf16_pair(b.z, b.w));
}

__global__ void round_rows_kernel(uint16_t* out, int64_t out_stride, RowsView x) {
  await_earlier_kernels();
  const int64_t row = blockIdx.x;
  each_column(out_stride,
              [&](int64_t c) { out[row * out_stride + c] = c < x.cols ? float_bf16(row_of(x, row)[c]) : uint16_t{0}; });
}

__global__ void pixel_shuffle_kernel(RowsView out, RowsView x, int64_t grid, int64_t ratio) {
  await_earlier_kernels();
  const int64_t side = (grid + ratio - 1) / ratio, row = blockIdx.x, square = ratio * ratio;
  const int64_t item = row / (side * side), y = row / side % side, column = row % side;
  each_column(out.cols, [&](int64_t c) {
    const int64_t part = c % square, gy = y * ratio + part / ratio, gx = column * ratio + part % ratio;
    const bool inside = gy < grid && gx < grid;
    row_of(out, row)[c] = inside ? row_of(x, (item * grid + gy) * grid + gx)[c / square] : 0.0f;
  });
}

__global__ void extract_patches_kernel(RowsView out, const float* pixels, int64_t size, int64_t patch) {
  const int64_t grid = size / patch, row = blockIdx.x;
  const int64_t item = row / (grid * grid), y = row / grid % grid * patch, x = row % grid * patch;
  each_column(out.cols, [&](int64_t c) {
    const int64_t channel = c / (patch * patch), dy = c / patch % patch, dx = c % patch;
    row_of(out, row)[c] = pixels[((item * 3 + channel) * size + y + dy) * size + x + dx];
  });
}

// A block that passes over a whole row.
dim3 whole_row(int64_t cols) { return dim3(cols <= 32 ? 32 : cols <= 256 ? 64 : 256); }

bool in_vectors(const RowsView& x) {
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.cols % 4 == 0 && x.row_stride % 4 == 0 &&
         (x.heads == 1 || x.head_stride % 4 == 0);
}

bool empty(const RowsView& x) { return x.rows * x.heads * x.cols == 0; }

}  // namespace

void embed(Stream stream, const RowsView& out, const TableView& table, const int32_t* ids) {
  if (empty(out)) return;
  const Pieces p = pieces(out.rows, out.cols);
  VL2_LAUNCH_EARLY(embed_kernel, p.grid, p.block, 0, stream, out, table, ids);
}

void gather_rows(Stream stream, const RowsView& out, const RowsView& x, const int32_t* rows) {
  if (empty(out)) return;
  const Pieces p = pieces(out.rows, out.cols);
  VL2_LAUNCH_EARLY(gather_kernel, p.grid, p.block, 0, stream, out, x, rows);
}

void scatter_rows(Stream stream, const RowsView& out, const RowsView& x, const int32_t* rows) {
  if (empty(x)) return;
  const Pieces p = pieces(x.rows, x.cols);
  VL2_LAUNCH_EARLY(scatter_kernel, p.grid, p.block, 0, stream, out, x, rows);
}

void add_rows(Stream stream, const RowsView& x, const TableView& table) {
  if (empty(x)) return;
  const Pieces p = pieces(x.rows, x.cols);
  VL2_LAUNCH_EARLY(add_rows_kernel, p.grid, p.block, 0, stream, x, table);
}

void add(Stream stream, const RowsView& x, const RowsView& y) {
  if (empty(x)) return;
  const Pieces p = pieces(x.rows * x.heads, x.cols);
  VL2_LAUNCH_EARLY(add_kernel, p.grid, p.block, 0, stream, x, y);
}

void rms_norm(Stream stream, const RowsView& out, const RowsView& x, const float* weight, float eps) {
  if (empty(x)) return;
  if (in_vectors(x) && in_vectors(out) && reinterpret_cast<uintptr_t>(weight) % 16 == 0 &&
      x.cols <= 4 * kNormParts * 256) {
    const auto threads = static_cast<unsigned>(std::min<int64_t>((x.cols / 4 + 31) / 32 * 32, 256));
    return VL2_LAUNCH_EARLY(rms_norm_vector_kernel, dim3(static_cast<unsigned>(x.rows * x.heads)), dim3(threads), 0,
                            stream, out, x, weight, eps);
  }
  VL2_LAUNCH_EARLY(rms_norm_kernel, dim3(static_cast<unsigned>(x.rows * x.heads)), whole_row(x.cols), 0, stream, out, x,
                   weight, eps);
}

void layer_norm(Stream stream, const RowsView& out, const RowsView& x, const float* weight, const float* bias,
                float eps) {
  if (empty(x)) return;
  VL2_LAUNCH_EARLY(layer_norm_kernel<FloatRows>, dim3(static_cast<unsigned>(x.rows * x.heads)), whole_row(x.cols), 0,
                   stream, FloatRows{out}, x, weight, bias, eps);
}

void layer_norm(Stream stream, Bf16Bits* out, int64_t out_stride, const RowsView& x, const float* weight,
                const float* bias, float eps) {
  if (empty(x)) return;
  if (in_vectors(x) && out_stride == x.cols && x.cols <= 128 * kNormLoads &&
      (reinterpret_cast<uintptr_t>(weight) | reinterpret_cast<uintptr_t>(bias)) % 16 == 0)
    return VL2_LAUNCH_EARLY(layer_norm_warp_kernel, dim3(static_cast<unsigned>((x.rows + kNormWarps - 1) / kNormWarps)),
                            dim3(kNormWarps * 32), 0, stream, out, out_stride, x, weight, bias, eps);
  VL2_LAUNCH_EARLY(layer_norm_kernel<RoundedRows>, dim3(static_cast<unsigned>(x.rows)), whole_row(x.cols), 0, stream,
                   RoundedRows{out, out_stride}, x, weight, bias, eps);
}

void gelu(Stream stream, const RowsView& x, bool tanh) {
  if (empty(x)) return;
  const Pieces p = pieces(x.rows, x.cols);
  VL2_LAUNCH_EARLY(gelu_kernel, p.grid, p.block, 0, stream, x, tanh);
}

void silu_mul(Stream stream, const RowsView& gate, const RowsView& up) {
  if (empty(gate)) return;
  const Pieces p = pieces(gate.rows, gate.cols);
  VL2_LAUNCH_EARLY(silu_mul_kernel, p.grid, p.block, 0, stream, gate, up);
}

void rope(Stream stream, const RowsView& x, const RowsView& y, const RowsView& cos, const RowsView& sin,
          bool interleaved) {
  if (empty(x)) return;
  constexpr int64_t kThreads = 256, kFewRows = 64;
  const int64_t heads = x.heads + (empty(y) ? 0 : y.heads), half = x.cols / 2;
  const int64_t at_once = std::clamp<int64_t>(kThreads / half, 1, heads);
  const int64_t parts = x.rows <= kFewRows ? (heads + at_once - 1) / at_once : 1;
  VL2_LAUNCH_EARLY(rope_kernel, dim3(static_cast<unsigned>(x.rows), static_cast<unsigned>(parts)),
                   dim3(static_cast<unsigned>((half * at_once + 31) / 32 * 32)), 0, stream, x, y, cos, sin,
                   static_cast<int>(heads), static_cast<int>(at_once), interleaved);
}

void round_rows(Stream stream, Bf16Bits* out, int64_t out_stride, const RowsView& x) {
  if (x.rows == 0) return;
  if (in_vectors(x) && x.heads == 1 && x.cols == out_stride && out_stride % 8 == 0) {
    const int64_t chunks = out_stride / 8;
    return VL2_LAUNCH_EARLY(round_vectors_kernel, dim3(static_cast<unsigned>((x.rows * chunks + 255) / 256)), dim3(256),
                            0, stream, out, out_stride, x, chunks);
  }
  const Pieces p = pieces(x.rows, out_stride);
  VL2_LAUNCH_EARLY(round_rows_kernel, p.grid, p.block, 0, stream, out, out_stride, x);
}

void pixel_shuffle(Stream stream, const RowsView& out, const RowsView& x, int64_t grid, int64_t ratio) {
  if (empty(out)) return;
  const Pieces p = pieces(out.rows, out.cols);
  VL2_LAUNCH_EARLY(pixel_shuffle_kernel, p.grid, p.block, 0, stream, out, x, grid, ratio);
}

void extract_patches(Stream stream, const RowsView& out, const float* pixels, int64_t size, int64_t patch) {
  if (empty(out)) return;
  const Pieces p = pieces(out.rows, out.cols);
  VL2_LAUNCH(extract_patches_kernel, p.grid, p.block, 0, stream, out, pixels, size, patch);
}

}  // namespace vl2::cuda

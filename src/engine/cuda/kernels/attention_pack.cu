#include "engine/cuda/kernels/attention_device.h"
#include "engine/cuda/kernels/attention_pack.h"

namespace vl2::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kStep = 8;  // columns of a thread

template <typename T>
__device__ __forceinline__ void copy_columns(const T* from, int count, float (&out)[kStep]) {
  if (count >= kStep) return load8(from, out);
  VL2_UNROLL
  for (int i = 0; i < kStep; ++i)
    if (i < count) out[i] = as_float(from[i]);
}

// `count` columns from `column` on, into out[0..].
__device__ __forceinline__ void read_source(const Pack& a, const PackSource& s, int64_t key, int group, int column,
                                            int count, float (&out)[kStep]) {
  if (s.rows != nullptr) return copy_columns(s.rows + key * s.row_stride + group * s.group_stride + column, count, out);
  const int64_t place =
      cache_row(a.cache, a.blocks, static_cast<int>(key)) * a.cache.width + s.column + group * s.group_stride + column;
  if (a.cache.bf16) return copy_columns(static_cast<const Bf16Bits*>(a.cache.data) + place, count, out);
  copy_columns(static_cast<const float*>(a.cache.data) + place, count, out);
}

__device__ __forceinline__ float value_at(const Pack& a, const PackSource& s, int64_t key, int group, int column) {
  if (s.rows != nullptr) return s.rows[key * s.row_stride + group * s.group_stride + column];
  const int64_t place =
      cache_row(a.cache, a.blocks, static_cast<int>(key)) * a.cache.width + s.column + group * s.group_stride + column;
  return a.cache.bf16 ? bf16_float(static_cast<const Bf16Bits*>(a.cache.data)[place])
                      : static_cast<const float*>(a.cache.data)[place];
}

// A thread for each eight columns of the output; neighbours in a row go to neighbouring threads.
__global__ void pack_kernel(Pack a) {
  await_earlier_kernels();
  const int chunks = (a.padded + kStep - 1) / kStep;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t row = index / chunks;  // [item][key]
  if (row >= static_cast<int64_t>(a.items) * a.keys) return;
  const int group = static_cast<int>(blockIdx.y), column = static_cast<int>(index - row * chunks) * kStep;
  const int item = static_cast<int>(row / a.keys), both = a.first.cols + a.second.cols;
  float values[kStep] = {};
  if (column + kStep <= a.first.cols || (a.second.cols == 0 && column < a.first.cols)) {
    read_source(a, a.first, row, group, column, min(kStep, a.first.cols - column), values);
  } else if (column >= a.first.cols && column < both) {
    read_source(a, a.second, row, group, column - a.first.cols, min(kStep, both - column), values);
  } else if (column < both) {  // the border of the two inside
    VL2_UNROLL
    for (int i = 0; i < kStep; ++i)
      if (column + i < a.first.cols) {
        values[i] = value_at(a, a.first, row, group, column + i);
      } else if (column + i < both) {
        values[i] = value_at(a, a.second, row, group, column + i - a.first.cols);
      }
  }
  const int64_t place =
      ((static_cast<int64_t>(item) * a.groups + group) * a.keys + (row - static_cast<int64_t>(item) * a.keys)) *
          a.padded +
      column;
  if (a.bf16 && a.padded % kStep == 0) {
    reinterpret_cast<uint4*>(a.out)[place / kStep] = narrow8(values);
    return;
  }
  VL2_UNROLL
  for (int i = 0; i < kStep; ++i) {
    if (column + i >= a.padded) {
      continue;
    } else if (a.bf16) {
      static_cast<Bf16Bits*>(a.out)[place + i] = float_bf16(values[i]);
    } else {
      static_cast<float*>(a.out)[place + i] = values[i];
    }
  }
}

}  // namespace

void pack(const Pack& args, Stream stream) {
  check_argument(args.first.cols + args.second.cols <= args.padded, "pack", "columns fit the packed row");
  const int64_t threads = static_cast<int64_t>(args.items) * args.keys * ((args.padded + kStep - 1) / kStep);
  if (threads == 0 || args.groups == 0) return;
  VL2_LAUNCH_EARLY(pack_kernel,
                   dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads), static_cast<unsigned>(args.groups)),
                   dim3(kThreads), 0, stream, args);
}

}  // namespace vl2::cuda

#include "engine/cuda/kernels/attention_device.h"
#include "engine/cuda/kernels/cache_append.h"

namespace vl2::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kColumns = 8;  // of a thread

__device__ float value_at(const RowsView& x, int64_t row, int column) {
  const int cols = static_cast<int>(x.cols), head = column / cols;
  return x.data[row * x.row_stride + head * x.head_stride + (column - head * cols)];
}

// A block for kThreads * kColumns columns of one row of the batch. whole: eight columns from a multiple of eight on
// belong to one head, and the cache's rows begin at multiples of 16 bytes.
template <bool whole>
__global__ void __launch_bounds__(kThreads) append_kernel(CacheAppend a) {
  await_earlier_kernels();
  const int row = static_cast<int>(blockIdx.x);
  const int column = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * kColumns;
  if (column >= a.cache.width) return;
  const SequenceRows s = a.sequences.sequences[a.sequences.row_sequence[row]];
  const int64_t place =
      cache_row(a.cache, a.sequences.block_table + s.first_block, s.past + row - s.begin) * a.cache.width + column;
  const int first = static_cast<int>(a.first.heads * a.first.cols);
  float values[kColumns];
  if constexpr (whole) {
    const bool is_first = column < first;
    const RowsView& x = is_first ? a.first : a.second;
    const int at = is_first ? column : column - first, head = at / static_cast<int>(x.cols);
    load8(x.data + row * x.row_stride + head * x.head_stride + (at - head * static_cast<int>(x.cols)), values);
  } else {
    VL2_UNROLL
    for (int i = 0; i < kColumns; ++i) {
      const int c = min(column + i, a.cache.width - 1);
      values[i] = c < first ? value_at(a.first, row, c) : value_at(a.second, row, c - first);
    }
  }
  if (whole && a.cache.bf16) {
    *reinterpret_cast<uint4*>(static_cast<Bf16Bits*>(a.cache.data) + place) = narrow8(values);
    return;
  }
  VL2_UNROLL
  for (int i = 0; i < kColumns; ++i) {
    if (!whole && column + i >= a.cache.width) break;
    if (a.cache.bf16) {
      static_cast<Bf16Bits*>(a.cache.data)[place + i] = float_bf16(values[i]);
    } else {
      static_cast<float*>(a.cache.data)[place + i] = values[i];
    }
  }
}

}  // namespace

void append_to_cache(const CacheAppend& args, Stream stream) {
  check_argument(args.first.heads * args.first.cols + args.second.heads * args.second.cols == args.cache.width,
                 "append_to_cache", "a row is as wide as the cache");
  if (args.sequences.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(args.sequences.rows),
                  static_cast<unsigned>((args.cache.width + kThreads * kColumns - 1) / (kThreads * kColumns)));
  const bool whole = args.first.cols % kColumns == 0 && args.second.cols % kColumns == 0 &&
                     args.cache.width % kColumns == 0 && reinterpret_cast<uintptr_t>(args.cache.data) % 16 == 0;
  if (whole) return VL2_LAUNCH_EARLY(append_kernel<true>, grid, dim3(kThreads), 0, stream, args);
  VL2_LAUNCH_EARLY(append_kernel<false>, grid, dim3(kThreads), 0, stream, args);
}

}  // namespace vl2::cuda

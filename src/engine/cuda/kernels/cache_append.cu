#include "engine/cuda/kernels/attention_device.h"
#include "engine/cuda/kernels/cache_append.h"

namespace vl2::cuda {
namespace {

constexpr int kThreads = 256;

__device__ float value_at(const RowsView& x, int64_t row, int column) {
  const int cols = static_cast<int>(x.cols), head = column / cols;
  return x.data[row * x.row_stride + head * x.head_stride + (column - head * cols)];
}

// A block for each row of the batch.
__global__ void append_kernel(CacheAppend a) {
  await_earlier_kernels();
  const int row = static_cast<int>(blockIdx.x);
  const SequenceRows s = a.sequences.sequences[a.sequences.row_sequence[row]];
  const int64_t place =
      cache_row(a.cache, a.sequences.block_table + s.first_block, s.past + row - s.begin) * a.cache.width;
  const int first = static_cast<int>(a.first.heads * a.first.cols);
  for (int c = static_cast<int>(threadIdx.x); c < a.cache.width; c += kThreads) {
    const float value = c < first ? value_at(a.first, row, c) : value_at(a.second, row, c - first);
    if (a.cache.bf16) {
      static_cast<Bf16Bits*>(a.cache.data)[place + c] = float_bf16(value);
    } else {
      static_cast<float*>(a.cache.data)[place + c] = value;
    }
  }
}

}  // namespace

void append_to_cache(const CacheAppend& args, Stream stream) {
  check_argument(args.first.heads * args.first.cols + args.second.heads * args.second.cols == args.cache.width,
                 "append_to_cache", "a row is as wide as the cache");
  if (args.sequences.rows == 0) return;
  VL2_LAUNCH_EARLY(append_kernel, dim3(static_cast<unsigned>(args.sequences.rows)), dim3(kThreads), 0, stream, args);
}

}  // namespace vl2::cuda

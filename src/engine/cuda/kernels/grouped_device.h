// What both kernels of grouped products share. For kernels.
#pragma once

#include "engine/cuda/device/reduce.h"
#include "engine/cuda/kernels/few_rows.h"
#include "engine/cuda/kernels/grouped.h"

namespace vl2::cuda {

struct GroupedArgs {
  const void* x;
  int64_t x_stride;
  const int32_t* order;
  int top_k;
  const int32_t* first;
  int groups, positions;
  const ExpertPointers* table;
  bool down;
  FewMatrix w, v;
  void* out;
  int64_t out_stride;
  const float* bias;
  bool add;
};

// Positions [begin, begin + count) of one group; count == 0: this block has none.
struct GroupTile {
  int group, begin, count;
};

// Row tile number `tile` when every group is cut into tiles of `size` positions. All lanes of a warp call it.
__device__ __forceinline__ GroupTile find_tile(const GroupedArgs& a, int tile, int size) {
  if (a.groups == 0) return {0, tile * size, min(size, a.positions - tile * size)};
  const int lane = static_cast<int>(threadIdx.x % 32);
  int before = 0;  // tiles of the groups behind us
  for (int base = 0; base < a.groups; base += 32) {
    const int g = base + lane;
    const int begin = g < a.groups ? a.first[g] : 0, end = g < a.groups ? a.first[g + 1] : 0;
    const int tiles = (end - begin + size - 1) / size;
    int upto = tiles;
    VL2_UNROLL
    for (int by = 1; by < 32; by *= 2) {
      const int other = __shfl_up_sync(kAllLanes, upto, static_cast<unsigned>(by));
      if (lane >= by) upto += other;
    }
    const unsigned beyond = __ballot_sync(kAllLanes, before + upto > tile);
    if (beyond != 0) {
      const int lead = __ffs(static_cast<int>(beyond)) - 1;
      const int inside = tile - before - __shfl_sync(kAllLanes, upto - tiles, lead);
      const int b = __shfl_sync(kAllLanes, begin, lead) + inside * size, e = __shfl_sync(kAllLanes, end, lead);
      return {base + lead, b, min(size, e - b)};
    }
    before += __shfl_sync(kAllLanes, upto, 31);
  }
  return {0, 0, 0};
}

__device__ __forceinline__ int64_t row_of(const GroupedArgs& a, int position) {
  return a.order != nullptr ? a.order[position] / a.top_k : position;
}

// A group's matrices.
__device__ __forceinline__ void choose_matrices(const GroupedArgs& a, int group, FewMatrix& w, FewMatrix& v) {
  w = a.w, v = a.v;
  if (a.groups == 0) return;
  const ExpertPointers pointers = a.table[group];
  w.data = a.down ? pointers.down : pointers.gate;
  v.data = pointers.up;
}

// Where k of a row stands among its eight neighbours when packed for `format` (its own inverse but for q4).
template <MatrixFormat format>
__device__ __forceinline__ int packed_place(int k) {
  const int i = k % 8;
  if (format == MatrixFormat::kQ8) return k - i + (i & 4) + ((i & 1) << 1) + ((i >> 1) & 1);
  if (format == MatrixFormat::kQ4) return k - i + ((i & 1) << 2) + (i >> 1);
  return k;
}

}  // namespace vl2::cuda

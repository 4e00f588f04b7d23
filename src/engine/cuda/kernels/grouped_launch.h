// From the host's arguments of a grouped product to the kernels'.
#pragma once

#include "engine/cuda/kernels/few_rows_launch.h"
#include "engine/cuda/kernels/grouped_device.h"

namespace vl2::cuda {

inline GroupedArgs grouped_args(const Grouped& a) {
  return {a.x,
          a.x_stride,
          a.order,
          static_cast<int>(a.top_k),
          a.first,
          static_cast<int>(a.groups),
          static_cast<int>(a.positions),
          a.table,
          a.down,
          few_matrix(a.w),
          few_matrix(a.v),
          a.out,
          a.out_stride,
          a.bias,
          a.add};
}

// At most this many row tiles: the groups' sizes are not known here.
inline unsigned row_tiles(const Grouped& a, int64_t size) {
  if (a.groups == 0) return static_cast<unsigned>((a.positions + size - 1) / size);
  return static_cast<unsigned>(a.positions / size + std::min(a.groups, a.positions));
}

}  // namespace vl2::cuda

// How decode kernels cut a matrix into blocks (host).
#pragma once

#include <algorithm>

#include "core/base/error.h"
#include "core/quant/panel_format.h"
#include "engine/cuda/kernels/few_rows.h"

namespace vl2::cuda {

inline FewMatrix few_matrix(const MatrixView& w) {
  const bool codes = w.format == MatrixFormat::kQ8 || w.format == MatrixFormat::kQ4;
  return {w.data, static_cast<int>(w.rows), static_cast<int>(w.cols), w.stride,
          codes ? static_cast<int>(quant_scale_bytes(w.cols)) : 0};
}

inline int few_tiles(const MatrixView& w) {
  const int64_t rows = w.format == MatrixFormat::kBf16 ? 16 : 32;
  return static_cast<int>((w.rows + rows - 1) / rows);
}

// Of the two matrices of a gated block.
inline int few_gated_tiles(const MatrixView& w) {
  return static_cast<int>(w.format == MatrixFormat::kBf16 ? (w.rows + 7) / 8 : few_tiles(w));
}

// Warps of a block, for `blocks` blocks and `cols` k: enough that everything is in flight on a large GPU, and as many
// that their last round over the units is not mostly idle.
inline int few_warps(int64_t blocks, int64_t cols) {
  constexpr int64_t kWanted = 132 * 20;  // warps in flight
  const int64_t units = std::max<int64_t>((cols + kUnit - 1) / kUnit, 1);
  const int64_t least = std::clamp<int64_t>((kWanted + blocks - 1) / std::max<int64_t>(blocks, 1), 4, kMostWarps);
  int64_t best = std::min(least, units);
  const auto idle = [&](int64_t warps) { return (units + warps - 1) / warps * warps; };
  for (int64_t warps = best; warps <= std::min<int64_t>({units, kMostWarps, 2 * least}); ++warps)
    if (idle(warps) < idle(best)) best = warps;
  return static_cast<int>(best);
}

inline bool rows_aligned(const float* x, int64_t stride) {
  return reinterpret_cast<uintptr_t>(x) % 16 == 0 && stride % 4 == 0;
}

// Calls f.template operator()<format, tiles, pieces>().
template <typename F>
void for_few_rows(MatrixFormat format, bool two_tiles, bool exact, const F& f) {
  const auto with_format = [&]<MatrixFormat kFormat>() {
    if (two_tiles)
      exact ? f.template operator()<kFormat, 2, 3>() : f.template operator()<kFormat, 2, 1>();
    else
      exact ? f.template operator()<kFormat, 1, 3>() : f.template operator()<kFormat, 1, 1>();
  };
  switch (format) {
    case MatrixFormat::kBf16:
      return with_format.template operator()<MatrixFormat::kBf16>();
    case MatrixFormat::kQ8:
      return with_format.template operator()<MatrixFormat::kQ8>();
    case MatrixFormat::kQ4:
      return with_format.template operator()<MatrixFormat::kQ4>();
    case MatrixFormat::kF32:
      break;
  }
  fail(ErrorCode::kInternal, "[cuda] float32 matrices have kernels of their own");
}

}  // namespace vl2::cuda

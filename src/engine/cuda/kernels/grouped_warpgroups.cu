// Grouped products of bfloat16 by wgmma. A block multiplies 128 or 192 rows of W (a gated product: half of them of V)
// by up to 256 positions of a group, so an expert's weights are usually read once. W is wgmma's left factor: positions
// are then its columns, and few of them cost in steps of 32 instead of 64. Tiles come by cp.async, a ring of stages of
// 64 k.
//
// In a gated product every 16 rows of the left tile are 8 of W and the same 8 of V: those are what one thread has of a
// warp's 16 rows, so it has both factors of what it writes.
#include "engine/cuda/device/warpgroup.h"
#include "engine/cuda/kernels/grouped.h"
#include "engine/cuda/kernels/grouped_device.h"
#include "engine/cuda/kernels/grouped_launch.h"

namespace vl2::cuda {
namespace {

constexpr int kDepth = 64, kStages = 4, kAhead = kStages - 2;
constexpr int kMostPositions = 256;

constexpr int stage_bytes(int warpgroups) { return (warpgroups * 64 + kMostPositions) * kTileRowBytes; }
constexpr size_t shared_bytes(int warpgroups) {
  return static_cast<size_t>(kStages * stage_bytes(warpgroups) + kTileAlignment);
}

// What a block does with its `tile` when that has at most `columns` positions.
template <int warpgroups, bool gated, int columns>
__device__ __forceinline__ void multiply_tile(const GroupedArgs& a, const GroupTile& tile, unsigned char* shared) {
  constexpr int kThreads = warpgroups * 128, kWRows = warpgroups * 64, kPass = kThreads / 8;
  constexpr int kWBytes = kWRows * kTileRowBytes;
  constexpr int kWPasses = kWRows / kPass, kXPasses = (columns + kPass - 1) / kPass;
  constexpr int kWide = gated ? kWRows / 2 : kWRows;  // columns of what comes out
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
  FewMatrix w, v;
  choose_matrices(a, tile.group, w, v);
  const int depth = static_cast<int>(w.stride), steps = (w.cols + kDepth - 1) / kDepth;
  const int column = static_cast<int>(blockIdx.x) * kWide;

  // This thread copies piece thread % 8 of the tiles' rows thread / 8 + kPass * i.
  const int row0 = thread / 8, part = thread % 8 * 8;
  const bool of_v = gated && row0 % 16 >= 8;
  const int w_row0 = column + (gated ? row0 / 16 * 8 + row0 % 8 : row0);
  const auto* w_data = static_cast<const uint16_t*>(of_v ? v.data : w.data);
  constexpr int kNextWRow = gated ? kPass / 2 : kPass;
  constexpr unsigned kNoRow = 0xffffffffu;
  unsigned x_piece[kXPasses];  // where its rows of x begin, in pieces of 16 bytes
  VL2_UNROLL
  for (int i = 0; i < kXPasses; ++i) {
    const int row = row0 + kPass * i;
    x_piece[i] = row < tile.count ? static_cast<unsigned>(row_of(a, tile.begin + row) * (a.x_stride / 8)) : kNoRow;
  }
  const int offset = static_cast<int>(tile_piece(shared, row0, thread % 8) - shared);
  const auto stage = [&](int step) { return shared + step % kStages * stage_bytes(warpgroups); };
  const auto fetch = [&](int step) {
    unsigned char* to = stage(step) + offset;
    const int k = step * kDepth + part;
    VL2_UNROLL
    for (int i = 0; i < kWPasses; ++i) {
      const int row = w_row0 + kNextWRow * i;
      const bool valid = row < w.rows && k < depth;
      async_copy16(to + i * kPass * kTileRowBytes, w_data + (valid ? row * w.stride + k : 0), valid);
    }
    VL2_UNROLL
    for (int i = 0; i < kXPasses; ++i) {
      if (columns % kPass != 0 && row0 + kPass * i >= columns) break;
      const bool valid = x_piece[i] != kNoRow;
      async_copy16(to + kWBytes + i * kPass * kTileRowBytes,
                   static_cast<const uint16_t*>(a.x) + (valid ? static_cast<int64_t>(x_piece[i]) * 8 + k : 0), valid);
    }
  };

  float sum[columns / 2];
  VL2_UNROLL
  for (int i = 0; i < columns / 2; ++i) sum[i] = 0;
  warpgroup_keep(sum);
  VL2_UNROLL
  for (int s = 0; s < kAhead; ++s) {
    if (s < steps) fetch(s);
    async_commit();
  }
  for (int step = 0; step < steps; ++step) {
    async_wait<kAhead - 1>();
    tiles_written();
    __syncthreads();
    const unsigned char* tiles = stage(step);
    warpgroup_begin();
    VL2_UNROLL
    for (int k = 0; k < kDepth; k += 16)
      warpgroup_multiply<columns>(sum, tile_descriptor(tiles, warp / 4 * 64, k),
                                  tile_descriptor(tiles + kWBytes, 0, k));
    warpgroup_commit();
    // Into the stage of two steps ago, which all warpgroups were done with before the barrier above.
    if (step + kAhead < steps) fetch(step + kAhead);
    async_commit();
    warpgroup_wait<1>();
  }
  warpgroup_wait<0>();
  warpgroup_keep(sum);
  __syncthreads();

  // By way of shared memory, where rows are positions again. Their pitch, 4 modulo 16, meets no bank twice.
  constexpr int kPitch = kWide + 4;
  auto* out_tile = reinterpret_cast<float*>(shared);
  VL2_UNROLL
  for (int i = 0; i < columns / 2; ++i) {
    float* to = out_tile + (i / 4 * 8 + t * 2 + i % 2) * kPitch;
    if constexpr (gated) {
      if (i % 4 < 2) to[warp * 8 + g] = silu(sum[i]) * sum[i + 2];
    } else {
      to[warp * 16 + i % 4 / 2 * 8 + g] = sum[i];
    }
  }
  __syncthreads();
  if constexpr (gated) {
    constexpr int kPairs = kWide / 2;
    const int limit = (w.rows + 63) / 64 * 64;  // beyond W's rows: the zeros that pad the next product's
    for (int i = thread; i < tile.count * kPairs; i += kThreads) {
      const int row = i / kPairs, at = i % kPairs * 2;
      if (column + at >= limit) continue;
      const float2 pair = *reinterpret_cast<const float2*>(out_tile + row * kPitch + at);
      auto* out = static_cast<uint16_t*>(a.out) + (tile.begin + row) * a.out_stride + column + at;
      *reinterpret_cast<unsigned*>(out) = bf16_pair(pair.x, pair.y);
    }
  } else {
    for (int i = thread; i < tile.count * kWide; i += kThreads) {
      const int row = i / kWide, at = column + i % kWide;
      if (at >= w.rows) continue;
      float* out = static_cast<float*>(a.out) + (tile.begin + row) * a.out_stride + at;
      const float value = out_tile[row * kPitch + i % kWide] + (a.bias != nullptr ? a.bias[at] : 0.0f);
      *out = a.add ? *out + value : value;
    }
  }
}

template <int warpgroups, bool gated>
__global__ void __launch_bounds__(warpgroups * 128, 1) grouped_warpgroups_kernel(GroupedArgs a, int size) {
  VL2_DYNAMIC_SHARED(unsigned char, dynamic);
  unsigned char* shared = dynamic + (kTileAlignment - shared_address(dynamic) % kTileAlignment) % kTileAlignment;
  const GroupTile tile = find_tile(a, static_cast<int>(blockIdx.y), size);
  if (tile.count <= 0) return;
  switch ((tile.count - 1) / 32) {
    case 0:
      return multiply_tile<warpgroups, gated, 32>(a, tile, shared);
    case 1:
      return multiply_tile<warpgroups, gated, 64>(a, tile, shared);
    case 2:
      return multiply_tile<warpgroups, gated, 96>(a, tile, shared);
    case 3:
      return multiply_tile<warpgroups, gated, 128>(a, tile, shared);
    case 4:
      return multiply_tile<warpgroups, gated, 160>(a, tile, shared);
    case 5:
      return multiply_tile<warpgroups, gated, 192>(a, tile, shared);
    case 6:
      return multiply_tile<warpgroups, gated, 224>(a, tile, shared);
    default:
      return multiply_tile<warpgroups, gated, 256>(a, tile, shared);
  }
}

template <int warpgroups>
void launch_tiles(Stream stream, const Grouped& a, int positions) {
  const GroupedArgs args = grouped_args(a);
  const int64_t wide = a.v.rows > 0 ? warpgroups * 32 : warpgroups * 64;
  const int64_t cols = a.v.rows > 0 ? packed_cols(a.w.rows) : a.w.rows;
  const dim3 grid(static_cast<unsigned>((cols + wide - 1) / wide), row_tiles(a, positions));
  constexpr size_t kShared = shared_bytes(warpgroups);
  if (a.v.rows > 0) {
    VL2_LAUNCH((grouped_warpgroups_kernel<warpgroups, true>), grid, warpgroups * 128, kShared, stream, args, positions);
  } else {
    VL2_LAUNCH((grouped_warpgroups_kernel<warpgroups, false>), grid, warpgroups * 128, kShared, stream, args,
               positions);
  }
}

// About how many cycles a product takes in such tiles: a step's products (128 a wgmma of 256 columns), or its tiles
// from the L2 cache at 32 bytes a cycle, whichever is more, and what begins and ends a block.
double estimated_cycles(const Grouped& a, const GroupedTiles& tiles, int multiprocessors) {
  const double rows = tiles.warpgroups * 64.0, outputs = static_cast<double>(a.w.rows) * (a.v.rows > 0 ? 2 : 1);
  const double steps = std::ceil(static_cast<double>(a.w.cols) / kDepth);
  const double groups = a.groups > 0 ? static_cast<double>(a.groups) : 1;
  const double mean = static_cast<double>(a.positions) / groups, per_group = std::ceil(mean / tiles.positions);
  const double columns = std::min<double>(tiles.positions, std::ceil(mean / per_group / 32) * 32);
  const double waves = std::ceil(outputs / rows) * per_group * groups / multiprocessors;
  const double step = std::max(rows * columns / 32, (rows + columns) * kTileRowBytes / 32);
  // Groups differ in size: their blocks do not end together.
  return (a.groups > 0 ? waves + 0.5 : std::ceil(waves)) * (steps * step + 4000);
}

}  // namespace

bool grouped_warpgroups_run() {
  const int major = current_device().major;
#ifdef VL2_HAS_WGMMA
  return major == 9;
#else
  return major == 0;  // the software device can
#endif
}

void grouped_warpgroups(Stream stream, const Grouped& a, GroupedTiles tiles) {
  VL2_CHECK(a.w.format == MatrixFormat::kBf16 && a.x_stride % 64 == 0);
  if (a.positions == 0 || a.w.rows == 0) return;
  if (tiles.warpgroups == 0) {
    const int multiprocessors = current_device().multiprocessors;
    double best = 0;
    for (const int warpgroups : {2, 3})
      for (int positions = a.groups > 0 ? kMostPositions : 64; positions <= kMostPositions; positions += 32) {
        const double cycles = estimated_cycles(a, {warpgroups, positions}, multiprocessors);
        if (tiles.warpgroups == 0 || cycles < best) best = cycles, tiles = {warpgroups, positions};
      }
  }
  VL2_CHECK(tiles.positions > 0 && tiles.positions <= kMostPositions);
  if (tiles.warpgroups == 2) return launch_tiles<2>(stream, a, tiles.positions);
  launch_tiles<3>(stream, a, tiles.positions);
}

}  // namespace vl2::cuda

// Attention of many rows by wgmma. A block is one or two warpgroups of 64 rows of one head, which share tiles of keys
// and values; they come by cp.async, in two stages, two blocks a multiprocessor. Scores' accumulators, as weights in
// bfloat16, are the left factor of the product with the values, in registers. Values lie as they came: a row is one k
// of that product. Queries are read from shared memory, or held in registers where there is room: a product of 64 keys
// else reads as much as shared memory gives.
//
// Measured on an H200 beside blocks of up to 192 rows and tiles of 128 keys: of the encoder's 729 rows two warpgroups
// are quickest, of causal prompts one, whose work is spread more evenly.
//
// While the weights of a tile are computed, the product of the tile before with its values runs.
#include <algorithm>

#include "engine/cuda/device/warpgroup.h"
#include "engine/cuda/kernels/attention_device.h"
#include "engine/cuda/kernels/flash_warpgroups.h"

namespace vl2::cuda {
namespace {

constexpr int kWarpgroupRows = 64;

// What is known of a kernel when it is compiled. Tiles of more than 64 columns are several, one behind the other.
template <int size, int v, int warpgroups, bool held_>
struct Plan {
  static constexpr int kSize = size, kV = v, kKeys = 64;
  static constexpr bool held = held_;
  static constexpr int kThreads = warpgroups * 128, kRows = warpgroups * kWarpgroupRows;
  static constexpr int kQTile = kRows * kTileRowBytes, kTile = kKeys * kTileRowBytes;
  static constexpr int kQBytes = (size + 63) / 64 * kQTile;
  static constexpr int kKBytes = (size + 63) / 64 * kTile, kVBytes = (v + 63) / 64 * kTile;
  static constexpr int kStages = 2;
  static constexpr size_t kShared = static_cast<size_t>(kQBytes + kStages * (kKBytes + kVBytes) + kTileAlignment);
};

// Copies keys [first, first + P::kKeys) without waiting; zeros beyond the last one and the last column.
template <typename P, int cols>
__device__ __forceinline__ void fetch_tiles(unsigned char* tiles, const Bf16Bits* rows, const KeyLayout& layout,
                                            int first, int keys) {
  const int thread = static_cast<int>(threadIdx.x), stride = static_cast<int>(layout.key);
  VL2_UNROLL
  for (int block = 0; block < cols; block += 64) {
    const int pieces = block + 64 <= cols ? 8 : (cols - block) / 8, pass = P::kThreads / pieces;
    const int row0 = thread / pieces, piece = thread % pieces, column = block + piece * 8;
    const bool used = column < layout.cols;
    const Bf16Bits* const from = rows + (used ? column : 0);
    VL2_UNROLL
    for (int i = 0; i < (P::kKeys + pass - 1) / pass; ++i) {
      const int row = row0 + i * pass;
      if (P::kKeys % pass != 0 && row >= P::kKeys) break;
      // A product of 32 bits: one instruction with the sum.
      const Bf16Bits* const key = from + static_cast<int64_t>(min(first + row, keys - 1)) * stride;
      async_copy16(tile_piece(tiles + block / 64 * P::kTile, row, piece), key, used && first + row < keys);
    }
  }
}

// Eight columns of a query, wherever it lies; zeros beyond the last column.
__device__ inline uint4 load_query(const FlashAttention& a, int64_t at, int column) {
  const int cols = static_cast<int>(a.q.cols);
  unsigned words[4] = {};
  VL2_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int first = column + 2 * i;
    if (a.q_bf16 != nullptr) {
      if (first < cols) words[i] = *reinterpret_cast<const unsigned*>(a.q_bf16 + at + 2 * i);
    } else {
      words[i] =
          bf16_pair(first < cols ? a.q.data[at + 2 * i] : 0.0f, first + 1 < cols ? a.q.data[at + 2 * i + 1] : 0.0f);
    }
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// A block's queries as tiles of 64 columns. Those in bfloat16 are copied without waiting where their place allows it.
template <typename P>
__device__ __forceinline__ void fetch_queries(unsigned char* tiles, const FlashAttention& a, int64_t base,
                                              int block_row) {
  constexpr int kPieces = P::kSize / 8;
  const bool whole = a.q.cols % 8 == 0 && a.q.row_stride % 8 == 0 && a.q.head_stride % 8 == 0;
  const bool copied = whole && a.q_bf16 != nullptr && is_aligned16(a.q_bf16);
  const bool loaded = whole && a.q_bf16 == nullptr && is_aligned16(a.q.data);
  VL2_UNROLL
  for (int i = 0; i < P::kRows * kPieces / P::kThreads; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * P::kThreads, row = at / kPieces, piece = at - row * kPieces;
    const bool there = block_row + row < a.rows && piece * 8 < a.q.cols;
    const int64_t from = there ? base + row * a.q.row_stride + piece * 8 : 0;
    unsigned char* const to = tile_piece(tiles + piece / 8 * P::kQTile, row, piece % 8);
    if (copied) {
      async_copy16(to, a.q_bf16 + from, there);
      continue;
    }
    uint4 bits = make_uint4(0, 0, 0, 0);
    if (loaded && there) {
      const auto* data = reinterpret_cast<const float4*>(a.q.data + from);
      const float4 x = data[0], y = data[1];
      bits = make_uint4(bf16_pair(x.x, x.y), bf16_pair(x.z, x.w), bf16_pair(y.x, y.y), bf16_pair(y.z, y.w));
    } else if (there) {
      bits = load_query(a, from, piece * 8);
    }
    *reinterpret_cast<uint4*>(to) = bits;
  }
}

// Row state of online softmax, for rows g and g + 8 of a warp's 16.
struct Softmax {
  float top[2], sum[2];
};

// Turns a tile's products into weights 2^(scale * (s - top)) under the highest so far; shrink: of what was before.
template <int registers>
__device__ __forceinline__ void softmax_tile(float (&s)[registers], float scale, Softmax& state, float (&shrink)[2]) {
  VL2_UNROLL
  for (int r = 0; r < 2; ++r) {
    float top = state.top[r];
    VL2_UNROLL
    for (int i = 0; i < registers; i += 4) top = fmaxf(top, fmaxf(s[i + 2 * r], s[i + 2 * r + 1]));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    shrink[r] = exp2_fast(scale * (state.top[r] - top));
    state.top[r] = top;
    const float base = scale * top;
    float sum = 0.0f;
    VL2_UNROLL
    for (int i = 2 * r; i < registers; i += 4) {
      s[i] = exp2_fast(s[i] * scale - base);
      s[i + 1] = exp2_fast(s[i + 1] * scale - base);
      sum += s[i] + s[i + 1];
    }
    state.sum[r] = state.sum[r] * shrink[r] + sum;  // of this lane's columns; lanes are added up at the end
  }
}

// mix += weights times a tile's values.
template <typename P>
__device__ __forceinline__ void add_values(float (&mix)[P::kV / 2], const unsigned (&weights)[P::kKeys / 16][4],
                                           const unsigned char* values) {
  VL2_UNROLL
  for (int k = 0; k < P::kKeys / 16; ++k)
    warpgroup_multiply_rows<P::kV>(mix, weights[k], rows_descriptor(values, k * 16, P::kTile));
}

template <typename P>
__device__ __forceinline__ void store_rows(const FlashAttention& a, const float (&mix)[P::kV / 2], const Softmax& state,
                                           int first_row, int item, int head) {
  const int lane = static_cast<int>(threadIdx.x) & 31, cols = static_cast<int>(a.out.cols);
  const bool pairs = cols % 2 == 0 && a.out.row_stride % 2 == 0 && a.out.head_stride % 2 == 0 &&
                     (reinterpret_cast<uintptr_t>(a.out.data) & 7) == 0;
  VL2_UNROLL
  for (int r = 0; r < 2; ++r) {
    float sum = state.sum[r];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const int row = first_row + lane / 4 + r * 8;
    if (row >= a.rows) continue;
    const int64_t at = (static_cast<int64_t>(item) * a.rows + row) * a.out.row_stride + head * a.out.head_stride;
    const float factor = 1.0f / sum;
    VL2_UNROLL
    for (int n = 0; n < P::kV / 8; ++n) {
      const int column = n * 8 + lane % 4 * 2;
      const float x = mix[4 * n + 2 * r] * factor, y = mix[4 * n + 2 * r + 1] * factor;
      if (a.out_bf16 != nullptr) {
        if (column < cols) *reinterpret_cast<unsigned*>(a.out_bf16 + at + column) = bf16_pair(x, y);
      } else if (pairs) {
        if (column < cols) *reinterpret_cast<float2*>(a.out.data + at + column) = make_float2(x, y);
      } else {
        if (column < cols) a.out.data[at + column] = x;
        if (column + 1 < cols) a.out.data[at + column + 1] = y;
      }
    }
  }
}

template <typename P>
__global__ void __launch_bounds__(P::kThreads, 2) flash_warpgroups_kernel(FlashAttention a) {
  VL2_DYNAMIC_SHARED(unsigned char, dynamic);
  await_earlier_kernels();
  constexpr int kStages = P::kStages;
  unsigned char* const q_tiles = dynamic + (kTileAlignment - shared_address(dynamic) % kTileAlignment) % kTileAlignment;
  unsigned char* const k_tiles = q_tiles + P::kQBytes;
  unsigned char* const v_tiles = k_tiles + kStages * P::kKBytes;
  // The shuffle tells the compiler that a warp's lanes agree.
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) >> 5, 0);
  const int head = static_cast<int>(blockIdx.x), item = static_cast<int>(blockIdx.z);
  const int group = head / (static_cast<int>(a.q.heads) / a.groups);
  // Causal rows that read most go first, of all heads.
  const int block_row = static_cast<int>(gridDim.y - 1 - blockIdx.y) * P::kRows;
  const int first_row = block_row + warp * 16;
  const Bf16Bits* const k = static_cast<const Bf16Bits*>(a.k) + item * a.k_layout.item + group * a.k_layout.group;
  const Bf16Bits* const v = static_cast<const Bf16Bits*>(a.v) + item * a.v_layout.item + group * a.v_layout.group;
  const float scale = a.scale * kLog2E;
  const int last_row = min(block_row + P::kRows, a.rows) - 1;
  const int end = a.causal ? min(a.keys, a.past + last_row + 1) : a.keys;
  const int tiles = (end + P::kKeys - 1) / P::kKeys;
  // Keys that all of this warp's rows see, and those that its row g sees (row g + 8: eight more, where causal).
  const int seen_by_all = a.causal ? min(a.keys, a.past + first_row + 1) : a.keys;

  // A group of copies: keys of a tile, and values of the tile before.
  const auto k_stage = [&](int t) { return k_tiles + t % kStages * P::kKBytes; };
  const auto v_stage = [&](int t) { return v_tiles + t % kStages * P::kVBytes; };
  const auto fetch = [&](int t) {
    if (t < tiles) fetch_tiles<P, P::kSize>(k_stage(t), k, a.k_layout, t * P::kKeys, a.keys);
    if (t >= 1 && t <= tiles) fetch_tiles<P, P::kV>(v_stage(t - 1), v, a.v_layout, (t - 1) * P::kKeys, a.keys);
    async_commit();
  };
  // Until group t is there for all, and all are done with the products of step t - 1.
  const auto await = [&] {
    async_wait<kStages - 2>();
    tiles_written();
    __syncthreads();
    warpgroup_begin();
  };
  float s[P::kKeys / 2], mix[P::kV / 2];
  unsigned weights[P::kKeys / 16][4] = {};
  unsigned queries[P::held ? P::kSize / 16 : 1][4] = {};
  const auto hold_queries = [&] {
    VL2_UNROLL
    for (int i = 0; i < P::kSize / 16; ++i) {
      const int piece = i * 2 + lane / 16;
      load_matrix_x4(queries[i], tile_piece(q_tiles + piece / 8 * P::kQTile, warp * 16 + lane % 16, piece % 8));
    }
    warpgroup_keep(queries);
    warpgroup_begin();
  };
  const auto multiply_keys = [&](int t) {
    VL2_UNROLL
    for (int i = 0; i < P::kSize / 16; ++i) {
      const uint64_t right = tile_descriptor(k_stage(t) + i / 4 * P::kTile, 0, i % 4 * 16);
      const auto by = [&](const auto& left) {
        if (i == 0)
          warpgroup_multiply_fresh<P::kKeys>(s, left, right);
        else
          warpgroup_multiply<P::kKeys>(s, left, right);
      };
      if constexpr (P::held)
        by(queries[i]);
      else
        by(tile_descriptor(q_tiles + i / 4 * P::kQTile, warp / 4 * kWarpgroupRows, i % 4 * 16));
    }
    warpgroup_commit();
  };
  const auto mask = [&](int t) {
    const int first_key = t * P::kKeys;
    if (first_key + P::kKeys <= seen_by_all) return;
    const int seen = a.causal ? a.past + first_row + lane / 4 + 1 : a.keys;
    VL2_UNROLL
    for (int i = 0; i < P::kKeys / 2; ++i) {
      const int key = first_key + i / 4 * 8 + lane % 4 * 2 + i % 2;
      if (key >= min(a.keys, a.causal ? seen + i % 4 / 2 * 8 : seen)) s[i] = -INFINITY;
    }
  };
  const auto keep_weights = [&] {
    VL2_UNROLL
    for (int i = 0; i < P::kKeys / 4; ++i) weights[i / 4][i % 4] = bf16_pair(s[2 * i], s[2 * i + 1]);
    warpgroup_keep(weights);
  };

  VL2_UNROLL
  for (int i = 0; i < P::kKeys / 2; ++i) s[i] = 0;
  VL2_UNROLL
  for (int i = 0; i < P::kV / 2; ++i) mix[i] = 0;
  Softmax state = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
  float shrink[2];

  fetch_queries<P>(q_tiles, a,
                   (static_cast<int64_t>(item) * a.rows + block_row) * a.q.row_stride + head * a.q.head_stride,
                   block_row);
  VL2_UNROLL
  for (int t = 0; t < kStages - 1; ++t) fetch(t);
  await();
  if constexpr (P::held) hold_queries();
  warpgroup_keep(s);
  multiply_keys(0);
  fetch(kStages - 1);
  warpgroup_wait<0>();
  warpgroup_keep(s);
  mask(0);
  softmax_tile(s, scale, state, shrink);
  keep_weights();

  for (int t = 1; t < tiles; ++t) {
    await();
    warpgroup_keep(s);
    warpgroup_keep(mix);
    multiply_keys(t);
    add_values<P>(mix, weights, v_stage(t - 1));
    warpgroup_commit();
    // Into the stages of keys t - 1 and values t - 2, which all warpgroups were done with before the barrier above.
    fetch(t + kStages - 1);
    warpgroup_wait<1>();
    warpgroup_keep(s);
    mask(t);
    softmax_tile(s, scale, state, shrink);
    warpgroup_wait<0>();
    warpgroup_keep(mix);
    VL2_UNROLL
    for (int i = 0; i < P::kV / 2; ++i) mix[i] *= shrink[i % 4 / 2];
    keep_weights();
  }
  await();
  warpgroup_keep(mix);
  add_values<P>(mix, weights, v_stage(tiles - 1));
  warpgroup_commit();
  warpgroup_wait<0>();
  warpgroup_keep(mix);
  store_rows<P>(a, mix, state, first_row, item, head);
}

template <int size, int v, int warpgroups, bool held>
void run_tiles(const FlashAttention& a, Stream stream) {
  using P = Plan<size, v, warpgroups, held>;
  const dim3 grid(static_cast<unsigned>(a.q.heads), static_cast<unsigned>((a.rows + P::kRows - 1) / P::kRows),
                  static_cast<unsigned>(a.items));
  VL2_LAUNCH_EARLY((flash_warpgroups_kernel<P>), grid, dim3(P::kThreads), P::kShared, stream, a);
}

}  // namespace

bool flash_warpgroups_have(const FlashSizes& sizes) { return sizes.bf16 && sizes.size >= 80; }

bool flash_warpgroups_run() {
  const int major = current_device().major;
#ifdef VL2_HAS_WGMMA
  return major == 9;
#else
  return major == 0;  // the software device can
#endif
}

void flash_warpgroups(const FlashAttention& args, Stream stream) {
  if (args.items == 0 || args.rows == 0) return;
  const FlashSizes sizes = flash_sizes(args.q.cols, args.out.cols, args.bf16);
  check_argument(flash_warpgroups_have(sizes), "flash_warpgroups", "sizes that have a kernel");
  FlashAttention a = args;
  if (a.k_layout.key == 0) a.k_layout = packed_layout(a, sizes.size);
  if (a.v_layout.key == 0) a.v_layout = packed_layout(a, sizes.v);
  check_argument(std::max(a.k_layout.key, a.v_layout.key) < int64_t{1} << 31, "flash_warpgroups",
                 "keys less than 2^31 apart");
  if (sizes.size == 80) return run_tiles<80, 80, 2, false>(a, stream);
  if (sizes.size == 128) return run_tiles<128, 128, 1, true>(a, stream);
  run_tiles<192, 128, 1, true>(a, stream);
}

}  // namespace vl2::cuda

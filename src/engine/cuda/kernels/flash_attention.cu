#include <utility>

#include "engine/cuda/kernels/attention_device.h"
#include "engine/cuda/kernels/flash_attention.h"
#include "engine/cuda/kernels/flash_warpgroups.h"
#include "engine/cuda/kernels/plain_attention.h"

namespace vl2::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kKeys = 64;  // keys of a tile
constexpr int kPad = 8;    // bfloat16 behind each row of a tile: rows of 16-byte pieces then begin in other banks
constexpr int kKeySteps = kKeys / 16;

template <int Size, int V>
constexpr size_t shared_bytes() {
  return 2 * kKeys * (Size + kPad + V + kPad) * sizeof(Bf16Bits);
}

// Copies keys [first, first + kKeys) to shared memory without waiting; zeros beyond the last one and the last column.
template <int Cols>
__device__ void fetch_tile(Bf16Bits* tile, const Bf16Bits* rows, const KeyLayout& layout, int first, int keys) {
  constexpr int kChunks = Cols / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kKeys * kChunks; i += kThreads) {
    const int key = i / kChunks, chunk = i - key * kChunks;
    Bf16Bits* to = tile + key * (Cols + kPad) + chunk * 8;
    const bool there = first + key < keys && chunk * 8 < layout.cols;
    async_copy16(to, rows + (there ? (first + key) * layout.key + chunk * 8 : 0), there);
  }
}

// A warp's 16 rows of queries as operands of mma: rows g and g + 8 of each lane, g = lane / 4.
template <int Size>
__device__ void load_queries(const FlashAttention& a, int64_t item_row, int head, int first,
                             unsigned (&q)[Size / 16][4]) {
  const int lane = static_cast<int>(threadIdx.x) & 31, cols = static_cast<int>(a.q.cols);
  VL2_UNROLL
  for (int k = 0; k < Size / 16; ++k) {
    VL2_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = first + lane / 4 + i % 2 * 8, column = k * 16 + lane % 4 * 2 + i / 2 * 8;
      const int64_t at = (item_row + row) * a.q.row_stride + head * a.q.head_stride + column;
      const bool there = row < a.rows;
      if (a.q_bf16 != nullptr) {
        q[k][i] = there && column < cols ? *reinterpret_cast<const unsigned*>(a.q_bf16 + at) : 0u;
        continue;
      }
      const float* from = a.q.data + at;
      q[k][i] = bf16_pair(there && column < cols ? from[0] : 0.0f, there && column + 1 < cols ? from[1] : 0.0f);
    }
  }
}

// Row state of online softmax, for rows g and g + 8.
struct Softmax {
  float top[2], sum[2];
};

// Turns a tile's products into weights 2^(scale * (s - top)) under the highest so far; shrink: of what was before.
__device__ inline void softmax_tile(float (&s)[kKeys / 8][4], float scale, Softmax& state, float (&shrink)[2]) {
  VL2_UNROLL
  for (int r = 0; r < 2; ++r) {
    float top = state.top[r];
    VL2_UNROLL
    for (int n = 0; n < kKeys / 8; ++n) top = fmaxf(top, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    shrink[r] = exp2_fast(scale * (state.top[r] - top));
    state.top[r] = top;
    const float base = scale * top;
    float sum = 0.0f;
    VL2_UNROLL
    for (int n = 0; n < kKeys / 8; ++n) {
      s[n][2 * r] = exp2_fast(s[n][2 * r] * scale - base);
      s[n][2 * r + 1] = exp2_fast(s[n][2 * r + 1] * scale - base);
      sum += s[n][2 * r] + s[n][2 * r + 1];
    }
    state.sum[r] = state.sum[r] * shrink[r] + sum;  // of this lane's columns; lanes are added up at the end
  }
}

// Blocks of a multiprocessor that registers are kept for: as many as spill next to nothing.
constexpr int blocks_at_once(int size, int tiles) { return size <= 128 && tiles == 1 ? 3 : 2; }

// A block: kWarps * 16 * Tiles rows of one head. A warp: Tiles times 16 rows, all keys.
template <int Size, int V, int Tiles>
__global__ __launch_bounds__(kThreads, blocks_at_once(Size, Tiles)) void flash_kernel(FlashAttention a) {
  VL2_DYNAMIC_SHARED(Bf16Bits, shared);
  await_earlier_kernels();
  constexpr int kKStride = Size + kPad, kVStride = V + kPad;
  constexpr int kBlockRows = kWarps * 16 * Tiles;
  Bf16Bits* const k_tiles = shared;
  Bf16Bits* const v_tiles = shared + 2 * kKeys * kKStride;
  const int lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
  const int head = static_cast<int>(blockIdx.y), item = static_cast<int>(blockIdx.z);
  const int group = head / (static_cast<int>(a.q.heads) / a.groups);
  // Causal rows that read most go first.
  const int block_row = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kBlockRows;
  const int first_row = block_row + warp * 16 * Tiles;
  const int64_t item_row = static_cast<int64_t>(item) * a.rows;
  const Bf16Bits* const k = static_cast<const Bf16Bits*>(a.k) + item * a.k_layout.item + group * a.k_layout.group;
  const Bf16Bits* const v = static_cast<const Bf16Bits*>(a.v) + item * a.v_layout.item + group * a.v_layout.group;
  const float scale = a.scale * kLog2E;
  const int last_row = min(block_row + kBlockRows, a.rows) - 1;
  const int end = a.causal ? min(a.keys, a.past + last_row + 1) : a.keys;
  const int tiles = (end + kKeys - 1) / kKeys;

  unsigned q[Tiles][Size / 16][4];
  float mix[Tiles][V / 8][4] = {};
  Softmax state[Tiles];
  VL2_UNROLL
  for (int m = 0; m < Tiles; ++m) {
    load_queries<Size>(a, item_row, head, first_row + m * 16, q[m]);
    state[m] = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
  }

  fetch_tile<Size>(k_tiles, k, a.k_layout, 0, a.keys);
  fetch_tile<V>(v_tiles, v, a.v_layout, 0, a.keys);
  async_commit();
  for (int t = 0; t < tiles; ++t) {
    const int first_key = t * kKeys;
    if (t + 1 < tiles) {
      const int next = (t + 1) % 2;
      fetch_tile<Size>(k_tiles + next * kKeys * kKStride, k, a.k_layout, first_key + kKeys, a.keys);
      fetch_tile<V>(v_tiles + next * kKeys * kVStride, v, a.v_layout, first_key + kKeys, a.keys);
    }
    async_commit();
    async_wait<1>();
    __syncthreads();
    const Bf16Bits* const k_tile = k_tiles + t % 2 * kKeys * kKStride;
    const Bf16Bits* const v_tile = v_tiles + t % 2 * kKeys * kVStride;

    float s[Tiles][kKeys / 8][4] = {};
    VL2_UNROLL
    for (int kk = 0; kk < Size / 16; ++kk) {
      VL2_UNROLL
      for (int n = 0; n < kKeys / 16; ++n) {
        unsigned b[4];  // two tiles of 8 keys, each in two halves of 8 columns
        load_matrix_x4(b, k_tile + (n * 16 + lane / 16 * 8 + lane % 8) * kKStride + kk * 16 + lane / 8 % 2 * 8);
        VL2_UNROLL
        for (int m = 0; m < Tiles; ++m) {
          mma_bf16(s[m][2 * n], q[m][kk], {b[0], b[1]});
          mma_bf16(s[m][2 * n + 1], q[m][kk], {b[2], b[3]});
        }
      }
    }

    VL2_UNROLL
    for (int m = 0; m < Tiles; ++m) {
      const int row = first_row + m * 16 + lane / 4;
      // Of these 16 rows the first sees fewest keys.
      const bool partly = first_key + kKeys > (a.causal ? min(a.keys, a.past + first_row + m * 16 + 1) : a.keys);
      if (partly) {
        VL2_UNROLL
        for (int n = 0; n < kKeys / 8; ++n) {
          VL2_UNROLL
          for (int i = 0; i < 4; ++i) {
            const int key = first_key + n * 8 + lane % 4 * 2 + i % 2;
            const int visible = a.causal ? min(a.keys, a.past + row + i / 2 * 8 + 1) : a.keys;
            if (key >= visible) s[m][n][i] = -INFINITY;
          }
        }
      }
      float shrink[2];
      softmax_tile(s[m], scale, state[m], shrink);
      VL2_UNROLL
      for (int n = 0; n < V / 8; ++n) {
        VL2_UNROLL
        for (int i = 0; i < 4; ++i) mix[m][n][i] *= shrink[i / 2];
      }
    }

    VL2_UNROLL
    for (int kk = 0; kk < kKeySteps; ++kk) {
      unsigned p[Tiles][4];
      VL2_UNROLL
      for (int m = 0; m < Tiles; ++m) {
        VL2_UNROLL
        for (int i = 0; i < 4; ++i)
          p[m][i] = bf16_pair(s[m][2 * kk + i / 2][i % 2 * 2], s[m][2 * kk + i / 2][i % 2 * 2 + 1]);
      }
      VL2_UNROLL
      for (int n = 0; n < V / 16; ++n) {
        unsigned b[4];  // two tiles of 8 columns, each in two halves of 8 keys
        load_matrix_x4_trans(b, v_tile + (kk * 16 + lane / 8 % 2 * 8 + lane % 8) * kVStride + n * 16 + lane / 16 * 8);
        VL2_UNROLL
        for (int m = 0; m < Tiles; ++m) {
          mma_bf16(mix[m][2 * n], p[m], {b[0], b[1]});
          mma_bf16(mix[m][2 * n + 1], p[m], {b[2], b[3]});
        }
      }
    }
    __syncthreads();  // before these tiles are overwritten
  }

  const int cols = static_cast<int>(a.out.cols);
  VL2_UNROLL
  for (int m = 0; m < Tiles; ++m) {
    VL2_UNROLL
    for (int r = 0; r < 2; ++r) {
      float sum = state[m].sum[r];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const int row = first_row + m * 16 + lane / 4 + r * 8;
      if (row >= a.rows) continue;
      const int64_t at = (item_row + row) * a.out.row_stride + head * a.out.head_stride;
      const float factor = 1.0f / sum;
      if (a.out_bf16 != nullptr) {
        VL2_UNROLL
        for (int n = 0; n < V / 8; ++n) {
          const int column = n * 8 + lane % 4 * 2;
          if (column < cols)
            *reinterpret_cast<unsigned*>(a.out_bf16 + at + column) =
                bf16_pair(mix[m][n][2 * r] * factor, mix[m][n][2 * r + 1] * factor);
        }
        continue;
      }
      float* const out = a.out.data + at;
      VL2_UNROLL
      for (int n = 0; n < V / 8; ++n) {
        const int column = n * 8 + lane % 4 * 2;
        if (column < cols) out[column] = mix[m][n][2 * r] * factor;
        if (column + 1 < cols) out[column + 1] = mix[m][n][2 * r + 1] * factor;
      }
    }
  }
}

template <int Size, int V, int Tiles>
void run_flash(FlashAttention a, Stream stream) {
  if (a.k_layout.key == 0) a.k_layout = packed_layout(a, Size);
  if (a.v_layout.key == 0) a.v_layout = packed_layout(a, V);
  constexpr int kBlockRows = kWarps * 16 * Tiles;
  const dim3 grid(static_cast<unsigned>((a.rows + kBlockRows - 1) / kBlockRows), static_cast<unsigned>(a.q.heads),
                  static_cast<unsigned>(a.items));
  VL2_LAUNCH_EARLY((flash_kernel<Size, V, Tiles>), grid, dim3(kThreads), (shared_bytes<Size, V>()), stream, a);
}

constexpr int32_t round_up(int64_t x, int64_t n) { return static_cast<int32_t>((x + n - 1) / n * n); }

}  // namespace

FlashSizes flash_sizes(int64_t size, int64_t v, bool bf16) {
  if (bf16) {
    for (const auto& [s, w] : {std::pair{32, 32}, {80, 80}, {128, 128}, {192, 128}})
      if (size <= s && v <= w) return {true, s, w};
  }
  return {false, round_up(size, 4), round_up(v, 4)};
}

void flash_attention(const FlashAttention& args, Stream stream) {
  if (args.items == 0 || args.rows == 0) return;
  const FlashSizes sizes = flash_sizes(args.q.cols, args.out.cols, args.bf16);
  check_argument(sizes.bf16 == args.bf16 && sizes.size == args.padded_size && sizes.v == args.padded_v,
                 "flash_attention", "keys and values are packed as flash_sizes says");
  check_argument(args.scale > 0.0f, "flash_attention", "a scale above zero");
  for (const KeyLayout& l : {args.k_layout, args.v_layout})
    check_argument(
        l.key % 8 == 0 && l.group % 8 == 0 && l.item % 8 == 0 && l.cols % 8 == 0 && (l.key == 0 || sizes.bf16),
        "flash_attention", "keys where they lie in bfloat16, at multiples of 16 bytes");
  check_argument((args.q_bf16 == nullptr && args.out_bf16 == nullptr) ||
                     (sizes.bf16 && args.q.cols % 2 == 0 && args.out.cols % 2 == 0),
                 "flash_attention", "rows in bfloat16 of an even number of columns");
  check_argument(!args.causal || args.past + args.rows <= args.keys, "flash_attention", "every row has its own key");
  if (!sizes.bf16) return plain_attention(args, stream);
  // Fewer rows do not fill a warpgroup.
  constexpr int32_t kLeastRows = 64;
  if (args.rows >= kLeastRows && flash_warpgroups_have(sizes) && current_device().major == 9 && flash_warpgroups_run())
    return flash_warpgroups(args, stream);
  flash_warps(args, stream);
}

void flash_warps(const FlashAttention& args, Stream stream) {
  if (args.items == 0 || args.rows == 0) return;
  const FlashSizes sizes = flash_sizes(args.q.cols, args.out.cols, true);
  if (sizes.size == 32) return run_flash<32, 32, 1>(args, stream);
  if (sizes.size == 80) return run_flash<80, 80, 2>(args, stream);
  if (sizes.size == 128) return run_flash<128, 128, 1>(args, stream);
  run_flash<192, 128, 1>(args, stream);
}

}  // namespace vl2::cuda

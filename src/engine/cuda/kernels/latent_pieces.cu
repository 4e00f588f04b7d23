#include <algorithm>

#include "engine/cuda/kernels/attention_device.h"
#include "engine/cuda/kernels/latent_pieces.h"

namespace vl2::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kMixColumns = 64;  // latent columns of a warp
constexpr int kMaxRank = kWarps * kMixColumns;
constexpr int kPad = 8;     // bfloat16 behind a row: rows then begin in other banks
constexpr int kChains = 4;  // sums side by side: one product need not wait for the one before

// Tiles: groups of 16 queries a block works on. Each warp has one of the 16 x 8 scores of a tile of keys.
template <int Tiles>
struct Layout {
  static constexpr int kQueries = 16 * Tiles;
  static constexpr int kKeys = 8 * kWarps / Tiles;
  static constexpr int kKeyTiles = kKeys / 8;
  static constexpr int kWeightStride = kKeys + kPad;

  // Columns of a row in shared memory, without the pad; zeros beyond the width.
  __host__ __device__ static int columns(int width) { return (width + 31) / 32 * 32; }
  static size_t shared_bytes(int width) {
    const int stride = columns(width) + kPad;
    return static_cast<size_t>((kKeys + kQueries) * stride + kQueries * kWeightStride) * sizeof(Bf16Bits) +
           static_cast<size_t>(2 * kKeyTiles * kQueries) * sizeof(float);
  }
};

// Latents of the tokens at `places` as bfloat16; zeros up to `columns`, and where there is no token.
__device__ inline void fetch_latents(Bf16Bits* tile, const CacheView& cache, const int64_t* places, int keys,
                                     int columns) {
  const bool aligned = cache.bf16 && cache.width % 8 == 0 && is_aligned16(cache.data);
  for (ChunkWalk at(static_cast<int>(threadIdx.x), kThreads, columns / 8); at.key < keys; at.next()) {
    const int column = at.chunk * 8;
    Bf16Bits* const to = tile + at.key * (columns + kPad) + column;
    const int64_t place = places[at.key];
    const int there = place >= 0 ? cache.width - column : 0;  // columns that exist
    const int64_t from = there > 0 ? place + column : 0;
    if (aligned) {
      async_copy16(to, static_cast<const Bf16Bits*>(cache.data) + from, there > 0);
      continue;
    }
    for (int c = 0; c < 8; ++c) {
      to[c] = c >= there   ? Bf16Bits{0}
              : cache.bf16 ? static_cast<const Bf16Bits*>(cache.data)[from + c]
                           : float_bf16(static_cast<const float*>(cache.data)[from + c]);
    }
  }
}

// A block: one piece of one sequence's context, kQueries of its queries (rows of the step and heads, head by head).
template <int Tiles>
__global__ __launch_bounds__(kThreads) void latent_kernel(LatentPieces a) {
  using L = Layout<Tiles>;
  VL2_DYNAMIC_SHARED(Bf16Bits, shared);
  await_earlier_kernels();
  const SequenceRows s = a.sequences.sequences[blockIdx.z];
  const int heads = static_cast<int>(a.q.heads), queries = s.count * heads, context = s.past + s.count;
  const int piece = static_cast<int>(blockIdx.x), first_query = static_cast<int>(blockIdx.y) * L::kQueries;
  const int begin = piece * a.pieces.keys, end = min(begin + a.pieces.keys, context);
  if (s.decode == 0 || begin >= end || first_query >= queries) return;

  const int columns = L::columns(a.cache.width), stride = columns + kPad;
  Bf16Bits* const latents = shared;
  Bf16Bits* const q = latents + L::kKeys * stride;
  Bf16Bits* const weights = q + L::kQueries * stride;
  float* const tops = reinterpret_cast<float*>(weights + L::kQueries * L::kWeightStride);  // [key tile][query]
  float* const sums = tops + L::kKeyTiles * L::kQueries;
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int32_t* const blocks = a.sequences.block_table + s.first_block;

  __shared__ int64_t places[L::kKeys];
  find_tokens(places, a.cache, blocks, begin, end - begin, L::kKeys);
  __syncthreads();
  fetch_latents(latents, a.cache, places, L::kKeys, columns);
  async_commit();
  for (int i = thread; i < L::kQueries * (columns / 8); i += kThreads) {
    const int row = i / (columns / 8), column = (i - row * (columns / 8)) * 8, query = first_query + row;
    float x[8] = {};
    if (query < queries && column < a.cache.width) {
      const int step_row = query / heads;
      const float* const from = a.q.data + (s.first_answer + step_row) * a.q.row_stride +
                                (query - step_row * heads) * a.q.head_stride + column;
      if (column + 8 <= a.cache.width) {
        load8(from, x);
      } else {
        VL2_UNROLL
        for (int c = 0; c < 8; ++c) x[c] = column + c < a.cache.width ? from[c] : 0.0f;
      }
    }
    *reinterpret_cast<uint4*>(q + row * stride + column) = narrow8(x);
  }

  // This warp's scores: rows own * 16 .. + 15, keys n * 8 .. + 7 of a tile.
  const int own = Tiles == 1 ? 0 : warp / L::kKeyTiles, n = Tiles == 1 ? warp : warp % L::kKeyTiles;
  int visible[2];  // keys that rows g and g + 8 see
  VL2_UNROLL
  for (int r = 0; r < 2; ++r) {
    const int query = first_query + own * 16 + lane / 4 + r * 8;
    visible[r] = query < queries ? s.past + query / heads + 1 : 0;
  }
  const float scale = a.scale * kLog2E;
  float mix[Tiles][kMixColumns / 8][4] = {};
  float top[Tiles][2], sum[2] = {0.0f, 0.0f};
  VL2_UNROLL
  for (int m = 0; m < Tiles; ++m) top[m][0] = top[m][1] = -INFINITY;

  for (int first = begin; first < end; first += L::kKeys) {
    async_wait<0>();
    __syncthreads();

    float score[kChains][4] = {};
    for (int k = 0; k < columns; k += 64) {
      VL2_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int column = k + half * 32;
        if (column >= columns) continue;
        unsigned b[4], x[4];  // 8 keys, 32 columns
        load_matrix_x4(b, latents + (n * 8 + lane % 8) * stride + column + lane / 8 * 8);
        load_matrix_x4(x, q + (own * 16 + lane % 16) * stride + column + lane / 16 * 8);
        mma_bf16(score[half * 2], x, {b[0], b[1]});
        load_matrix_x4(x, q + (own * 16 + lane % 16) * stride + column + 16 + lane / 16 * 8);
        mma_bf16(score[half * 2 + 1], x, {b[2], b[3]});
      }
    }
    VL2_UNROLL
    for (int r = 0; r < 2; ++r) {
      float highest = -INFINITY;
      VL2_UNROLL
      for (int i = 2 * r; i < 2 * r + 2; ++i) {
        const int key = first + n * 8 + lane % 4 * 2 + i % 2;
        const float total = (score[0][i] + score[1][i]) + (score[2][i] + score[3][i]);
        score[0][i] = key < visible[r] && key < end ? total * scale : -INFINITY;
        highest = fmaxf(highest, score[0][i]);
      }
      highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, 1));
      highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, 2));
      if (lane % 4 == 0) tops[n * L::kQueries + own * 16 + lane / 4 + r * 8] = highest;
    }
    __syncthreads();

    VL2_UNROLL
    for (int m = 0; m < Tiles; ++m) {
      VL2_UNROLL
      for (int r = 0; r < 2; ++r) {
        float highest = top[m][r];
        VL2_UNROLL
        for (int i = 0; i < L::kKeyTiles; ++i)
          highest = fmaxf(highest, tops[i * L::kQueries + m * 16 + lane / 4 + r * 8]);
        // A row that has seen no key yet has no highest score, nothing to shrink and no weights.
        const float base = highest == -INFINITY ? 0.0f : highest;
        const float shrink = exp2_fast(top[m][r] - base);
        top[m][r] = highest;
        VL2_UNROLL
        for (int c = 0; c < kMixColumns / 8; ++c) {
          mix[m][c][2 * r] *= shrink;
          mix[m][c][2 * r + 1] *= shrink;
        }
        if (m != own) continue;
        const float p0 = exp2_fast(score[0][2 * r] - base), p1 = exp2_fast(score[0][2 * r + 1] - base);
        sum[r] = sum[r] * shrink + p0 + p1;
        *reinterpret_cast<unsigned*>(weights + (m * 16 + lane / 4 + r * 8) * L::kWeightStride + n * 8 + lane % 4 * 2) =
            bf16_pair(p0, p1);
      }
    }
    __syncthreads();

    VL2_UNROLL
    for (int k = 0; k < L::kKeys / 16; ++k) {
      unsigned p[Tiles][4];
      VL2_UNROLL
      for (int m = 0; m < Tiles; ++m)
        load_matrix_x4(p[m], weights + (m * 16 + lane % 16) * L::kWeightStride + k * 16 + lane / 16 * 8);
      VL2_UNROLL
      for (int c = 0; c < kMixColumns / 16; ++c) {
        const int column = warp * kMixColumns + c * 16;
        if (column >= a.rank) continue;
        unsigned b[4];  // 16 keys, 16 columns
        load_matrix_x4_trans(b, latents + (k * 16 + lane % 16) * stride + column + lane / 16 * 8);
        VL2_UNROLL
        for (int m = 0; m < Tiles; ++m) {
          mma_bf16(mix[m][2 * c], p[m], {b[0], b[1]});
          mma_bf16(mix[m][2 * c + 1], p[m], {b[2], b[3]});
        }
      }
    }
    if (first + L::kKeys >= end) continue;
    find_tokens(places, a.cache, blocks, first + L::kKeys, end - first - L::kKeys, L::kKeys);
    __syncthreads();  // this tile was read
    fetch_latents(latents, a.cache, places, L::kKeys, columns);
    async_commit();
  }

  VL2_UNROLL
  for (int r = 0; r < 2; ++r) {
    const float total = warp_sum<4>(sum[r]);
    if (lane % 4 == 0) sums[n * L::kQueries + own * 16 + lane / 4 + r * 8] = total;
  }
  __syncthreads();
  VL2_UNROLL
  for (int m = 0; m < Tiles; ++m) {
    VL2_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int row = m * 16 + lane / 4 + r * 8, query = first_query + row;
      if (query >= queries) continue;
      const int step_row = query / heads;
      const int64_t place =
          (static_cast<int64_t>(s.first_answer + step_row) * heads + query - step_row * heads) * a.pieces.count + piece;
      if (warp == 0 && lane % 4 == 0) {
        float whole = 0.0f;
        VL2_UNROLL
        for (int i = 0; i < L::kKeyTiles; ++i) whole += sums[i * L::kQueries + row];
        a.pieces.stats[2 * place] = top[m][r];
        a.pieces.stats[2 * place + 1] = whole;
      }
      float* const out = a.pieces.mix + place * a.rank;
      VL2_UNROLL
      for (int c = 0; c < kMixColumns / 8; ++c) {
        const int column = warp * kMixColumns + c * 8 + lane % 4 * 2;
        if (column + 1 < a.rank && a.rank % 2 == 0) {
          *reinterpret_cast<float2*>(out + column) = make_float2(mix[m][c][2 * r], mix[m][c][2 * r + 1]);
          continue;
        }
        if (column < a.rank) out[column] = mix[m][c][2 * r];
        if (column + 1 < a.rank) out[column + 1] = mix[m][c][2 * r + 1];
      }
    }
  }
}

int64_t longest_answer(const SequencesView& s) {
  return s.longest_answer > 0 ? s.longest_answer : std::min(s.longest_count, s.decode_rows);
}

template <int Tiles>
void run_latent(const LatentPieces& a, Stream stream) {
  const int64_t queries = longest_answer(a.sequences) * a.q.heads;
  const dim3 grid(static_cast<unsigned>(a.pieces.count),
                  static_cast<unsigned>((queries + 16 * Tiles - 1) / (16 * Tiles)),
                  static_cast<unsigned>(a.sequences.num_sequences));
  VL2_LAUNCH_EARLY(latent_kernel<Tiles>, grid, dim3(kThreads), Layout<Tiles>::shared_bytes(a.cache.width), stream, a);
}

constexpr size_t kSharedLimit = 160 << 10;  // of the smallest device we know (sm_80)

}  // namespace

bool latent_pieces_fit(int32_t rank, int32_t width) {
  return rank >= 1 && rank <= kMaxRank && rank <= width && Layout<1>::shared_bytes(width) <= kSharedLimit &&
         Layout<2>::shared_bytes(width) <= kSharedLimit;
}

int32_t latent_piece_keys(int32_t sequences, int32_t rows_of_longest, int32_t heads, int32_t longest_context,
                          int32_t multiprocessors) {
  constexpr int64_t kLeast = 64, kBlocksAtOnce = 2;
  const int64_t groups = (static_cast<int64_t>(rows_of_longest) * heads + 15) / 16;
  const int64_t others = std::max<int64_t>(sequences * groups, 1);
  const int64_t pieces = std::max<int64_t>(2 * kBlocksAtOnce * multiprocessors / others, 1);
  const int64_t keys = (longest_context + pieces - 1) / pieces;
  return static_cast<int32_t>(std::max<int64_t>((keys + kLeast - 1) / kLeast, 1) * kLeast);
}

void latent_pieces(const LatentPieces& args, Stream stream) {
  check_argument(latent_pieces_fit(args.rank, args.cache.width) && args.pieces.keys % 64 == 0 &&
                     args.pieces.heads == args.q.heads && args.pieces.v_size == args.rank &&
                     args.q.cols == args.cache.width,
                 "latent_pieces", "sizes that latent_pieces_fit, pieces of 64 keys or more for every head");
  if (args.sequences.decode_rows == 0) return;
  if (args.q.heads * longest_answer(args.sequences) <= 16) return run_latent<1>(args, stream);
  run_latent<2>(args, stream);
}

}  // namespace vl2::cuda

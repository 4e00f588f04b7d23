#include "engine/cuda/kernels/attention_device.h"
#include "engine/cuda/kernels/decode_attention.h"

namespace vl2::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kKeys = kDecodeKeys;
constexpr int kParts = kThreads / kKeys;  // threads that share a key
static_assert(kParts == 2);

// Bytes from key to key in shared memory: an odd number of 32-byte pieces, so that 16-byte reads of four neighbouring
// keys by two threads each meet all banks.
template <typename T>
__host__ __device__ constexpr int tile_stride(int cols) {
  const int pieces = (cols * static_cast<int>(sizeof(T)) + 31) / 32;
  return (pieces | 1) * 32 / static_cast<int>(sizeof(T));
}

// Columns [column, column + cols) of the tokens at `places`; zeros up to the stride, and where there is no token.
template <typename T>
__device__ void fetch_rows(T* tile, int stride, const CacheView& cache, const int64_t* places, int column, int cols) {
  constexpr int kChunk = 16 / sizeof(T);
  const T* const data = static_cast<const T*>(cache.data);
  const bool aligned = cache.width % kChunk == 0 && column % kChunk == 0 && is_aligned16(data);
  for (ChunkWalk at(static_cast<int>(threadIdx.x), kThreads, stride / kChunk); at.key < kKeys; at.next()) {
    const int first = at.chunk * kChunk;
    T* const to = tile + at.key * stride + first;
    const int64_t place = places[at.key];
    const int there = place >= 0 ? cols - first : 0;  // columns that exist
    const T* const from = there > 0 ? data + place + column + first : data;
    if (aligned && (there <= 0 || there >= kChunk)) {
      async_copy16(to, from, there > 0);
      continue;
    }
    for (int c = 0; c < kChunk; ++c) to[c] = c < there ? from[c] : T{};
  }
}

__device__ inline float dot16(const float* q, const float* k) {
  const float4 a = *reinterpret_cast<const float4*>(q), b = *reinterpret_cast<const float4*>(k);
  return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}
__device__ inline float dot16(const float* q, const Bf16Bits* k) {
  float wide[8], query[8];
  widen8(*reinterpret_cast<const uint4*>(k), wide);
  load8(q, query);
  float sum = 0.0f;
  VL2_UNROLL
  for (int i = 0; i < 8; ++i) sum += query[i] * wide[i];
  return sum;
}

template <typename T>
size_t decode_shared_bytes(int size, int v_size, bool own_values) {
  const int k = tile_stride<T>(size), v = own_values ? tile_stride<T>(v_size) : 0;
  return static_cast<size_t>(kKeys * (k + v)) * sizeof(T) + static_cast<size_t>(k + kKeys + 32) * sizeof(float);
}

// A block: one piece of one sequence and key group, all its queries one after another.
template <typename T>
__global__ __launch_bounds__(kThreads) void decode_kernel(DecodeAttention a) {
  VL2_DYNAMIC_SHARED(unsigned char, shared);
  await_earlier_kernels();
  const SequenceRows s = a.sequences.sequences[blockIdx.z];
  const int piece = static_cast<int>(blockIdx.x), group = static_cast<int>(blockIdx.y);
  const int first = piece * kKeys, keys = min(kKeys, s.past + s.count - first);
  if (s.decode == 0 || keys <= 0) return;
  const int size = static_cast<int>(a.q.cols), heads = static_cast<int>(a.q.heads), v_size = a.v_size;
  const int heads_of_group = heads / a.groups;
  // Values that are the first columns of the keys are not fetched again.
  const bool own_values = a.value_column != 0;
  const int k_stride = tile_stride<T>(size), v_stride = own_values ? tile_stride<T>(v_size) : k_stride;
  T* const k_tile = reinterpret_cast<T*>(shared);
  T* const v_tile = own_values ? k_tile + kKeys * k_stride : k_tile;
  float* const query = reinterpret_cast<float*>(k_tile + kKeys * (k_stride + (own_values ? v_stride : 0)));
  float* const weights = query + k_stride;
  float* const scratch = weights + kKeys;
  __shared__ int64_t places[kKeys];
  find_tokens(places, a.cache, a.sequences.block_table + s.first_block, first, keys, kKeys);
  __syncthreads();
  fetch_rows(k_tile, k_stride, a.cache, places, group * size, size);
  if (own_values) fetch_rows(v_tile, v_stride, a.cache, places, a.value_column + group * v_size, v_size);
  async_commit();
  async_wait<0>();

  const int thread = static_cast<int>(threadIdx.x), key = thread / kParts, part = thread % kParts;
  constexpr int kChunk = 16 / sizeof(T);
  for (int i = 0; i < s.count * heads_of_group; ++i) {
    const int row = i / heads_of_group, head = group * heads_of_group + i - row * heads_of_group;
    const int answer = s.first_answer + row, visible = s.past + row + 1 - first;
    if (visible <= 0) continue;  // the same for all threads
    const float* const from = a.q.data + (a.query_rows == QueryRows::kBatch ? s.begin + row : answer) * a.q.row_stride +
                              head * a.q.head_stride;
    for (int c = thread; c < k_stride; c += kThreads) query[c] = c < size ? from[c] * (a.scale * kLog2E) : 0.0f;
    __syncthreads();
    float score = 0.0f;
    for (int c = part * kChunk; c < k_stride; c += kParts * kChunk)
      score += dot16(query + c, k_tile + key * k_stride + c);
    score += __shfl_xor_sync(kAllLanes, score, 1);
    if (key >= visible || key >= keys) score = -INFINITY;
    const float top = block_max(score, scratch);
    const float weight = exp2f(score - top);
    if (part == 0) weights[key] = weight;
    const float sum = block_sum(part == 0 ? weight : 0.0f, scratch);  // its barriers publish the weights
    const int64_t place = (static_cast<int64_t>(answer) * a.pieces.heads + head) * a.pieces.count + piece;
    if (thread == 0) {
      a.pieces.stats[2 * place] = top;
      a.pieces.stats[2 * place + 1] = sum;
    }
    for (int c = thread; c < v_size; c += kThreads) {
      float total = 0.0f;
      VL2_UNROLL
      for (int j = 0; j < kKeys; ++j) total += weights[j] * as_float(v_tile[j * v_stride + c]);
      a.pieces.mix[place * v_size + c] = total;
    }
    __syncthreads();  // before query and weights are written again
  }
}

constexpr int kMergeThreads = 128;
constexpr int kMergeUnroll = 16;  // pieces whose values a thread reads at once

// A block for each answer's row, head and kMergeThreads columns.
__global__ __launch_bounds__(kMergeThreads) void merge_kernel(MergePieces a) {
  await_earlier_kernels();
  __shared__ float shares[kMergeThreads], scratch[32];
  const int answer = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x), column = static_cast<int>(blockIdx.z) * kMergeThreads + thread;
  const int row = a.sequences.answer_rows[answer];
  const SequenceRows s = a.sequences.sequences[a.sequences.row_sequence[row]];
  const int keys = s.past + row - s.begin + 1, pieces = (keys + a.pieces.keys - 1) / a.pieces.keys;
  const int64_t first = (static_cast<int64_t>(answer) * a.pieces.heads + head) * a.pieces.count;
  const float2* const stats = reinterpret_cast<const float2*>(a.pieces.stats) + first;
  const int v_size = a.pieces.v_size;
  float top = -INFINITY;
  for (int i = thread; i < pieces; i += kMergeThreads) top = fmaxf(top, stats[i].x);
  top = block_max(top, scratch);
  float whole = 0.0f, total = 0.0f;
  for (int begin = 0; begin < pieces; begin += kMergeThreads) {
    float share = 0.0f;
    if (begin + thread < pieces) {
      const float2 piece = stats[begin + thread];
      share = exp2f(piece.x - top);
      whole += share * piece.y;
    }
    shares[thread] = share;
    __syncthreads();
    const int count = min(kMergeThreads, pieces - begin);
    const float* const mix = a.pieces.mix + (first + begin) * v_size + column;
    for (int i = 0; i < count && column < v_size; i += kMergeUnroll) {
      float values[kMergeUnroll];
      VL2_UNROLL
      for (int j = 0; j < kMergeUnroll; ++j)
        values[j] = i + j < count ? mix[static_cast<int64_t>(i + j) * v_size] : 0.0f;
      VL2_UNROLL
      for (int j = 0; j < kMergeUnroll; ++j)
        if (i + j < count) total += shares[i + j] * values[j];
    }
    __syncthreads();
  }
  whole = block_sum(whole, scratch);
  if (column >= v_size) return;
  a.out.data[(a.out_rows == QueryRows::kBatch ? row : answer) * a.out.row_stride + head * a.out.head_stride + column] =
      total / whole;
}

constexpr int64_t kAlign = 256;
int64_t stats_bytes(int64_t queries, int64_t pieces) {
  return (queries * pieces * 2 * static_cast<int64_t>(sizeof(float)) + kAlign - 1) / kAlign * kAlign;
}
int64_t num_pieces(int64_t context, int64_t keys) { return (context + keys - 1) / keys; }

template <typename T>
void run_decode(const DecodeAttention& a, Stream stream) {
  const size_t bytes = decode_shared_bytes<T>(static_cast<int>(a.q.cols), a.v_size, a.value_column != 0);
  const dim3 grid(static_cast<unsigned>(a.pieces.count), static_cast<unsigned>(a.groups),
                  static_cast<unsigned>(a.sequences.num_sequences));
  VL2_LAUNCH_EARLY(decode_kernel<T>, grid, dim3(kThreads), bytes, stream, a);
}

}  // namespace

int64_t pieces_bytes(int64_t answer_rows, int64_t heads, int64_t v_size, int64_t longest_context, int64_t keys) {
  const int64_t queries = answer_rows * heads, pieces = num_pieces(longest_context, keys);
  return stats_bytes(queries, pieces) + queries * pieces * v_size * static_cast<int64_t>(sizeof(float));
}

PiecesView make_pieces(void* scratch, int64_t answer_rows, int64_t heads, int64_t v_size, int64_t longest_context,
                       int64_t keys) {
  const int64_t pieces = num_pieces(longest_context, keys);
  auto* const stats = static_cast<float*>(scratch);
  return {stats,
          stats + stats_bytes(answer_rows * heads, pieces) / static_cast<int64_t>(sizeof(float)),
          static_cast<int32_t>(heads),
          static_cast<int32_t>(v_size),
          static_cast<int32_t>(keys),
          static_cast<int32_t>(pieces)};
}

void decode_pieces(const DecodeAttention& args, Stream stream) {
  check_argument(args.pieces.keys == kDecodeKeys && args.pieces.heads == args.q.heads &&
                     args.pieces.v_size == args.v_size && args.q.heads % args.groups == 0,
                 "decode_pieces", "room for pieces of kDecodeKeys keys of every head");
  if (args.sequences.decode_rows == 0) return;
  if (args.cache.bf16) return run_decode<Bf16Bits>(args, stream);
  run_decode<float>(args, stream);
}

void merge_pieces(const MergePieces& args, Stream stream) {
  if (args.sequences.decode_rows == 0) return;
  VL2_LAUNCH_EARLY(merge_kernel,
                   dim3(static_cast<unsigned>(args.sequences.decode_rows), static_cast<unsigned>(args.pieces.heads),
                        static_cast<unsigned>((args.pieces.v_size + kMergeThreads - 1) / kMergeThreads)),
                   dim3(kMergeThreads), 0, stream, args);
}

}  // namespace vl2::cuda

// Softmax attention of a few queries over the keys of one head, block of keys by block of keys.
//
// A query is a lane of the vectors: scores are [keys][lanes], results [v_size][lanes]. Blocks of keys begin at
// multiples of kKeyBlock whatever a query's place in the batch, and a lane never depends on the others, so the bits of
// a row do not depend on how a prompt is cut. Float32 products read keys and values where they lie; bf16 products go
// through the GEMM kernels, keys and transposed values packed once.
#pragma once

#include <functional>

#include "engine/cpu/cpu_context.h"

namespace vl2::cpu {

// Keys whose scores are near together. Fewer fit the first-level cache better, but results pass by once a block: of 64
// to 256, the most was best on the whole; 192 was a little better for short prompts of many heads.
inline constexpr int64_t kKeyBlock = 256;
// 2^x instead of e^x: queries are scaled by this as well.
inline constexpr float kLog2E = 1.44269504088896341f;

// Keys [keys][size] and values [keys][v_size] of one head.
struct HeadKeys {
  int64_t keys = 0;
  int64_t size = 0;
  int64_t v_size = 0;
  RowRuns k{}, v{};  // float32 products
  Bf16Runs rows{};   // values are the first v_size of a key: used where they lie by the kernels for bf16 rows
  // Puts rows [first, first + n) of a block where k and v say; empty: they all lie there.
  std::function<void(int64_t first, int64_t n)> fetch = {};
  std::byte* packed_k = nullptr;  // bf16 products: blocks of kKeyBlock keys
  std::byte* packed_v = nullptr;
};
// Room for the packed blocks of a head.
HeadKeys allocate_packed(const CpuContext& context, int64_t keys, int64_t size, int64_t v_size);
// Packs block `block` of a head from rows k [n][size] and v [n][v_size]; n is kKeyBlock but for the last block.
// scratch: v_size * kKeyBlock floats.
void pack_block(const CpuContext& context, const HeadKeys& head, int64_t block, const float* k, const float* v,
                int64_t n, float* scratch);

// Queries that share a pass over the keys, at most; a multiple of 16. packed: of keys that allocate_packed made.
int64_t max_lanes(const CpuContext& context, bool packed);

// Several queries of one head, or of several heads that share their keys. Lane l stands for row (first_lane + l) /
// lanes_per_row and sees the first visible + row keys; lanes_per_row 0: all see `visible`.
struct Lanes {
  const float* q;  // [size][16 * vectors], scaled by scale * kLog2E
  int64_t vectors;
  int64_t visible;
  int64_t lanes_per_row;
  int64_t first_lane;
  const std::byte* laid_out = nullptr;  // q as the scores of HeadKeys::rows take it

  int64_t count() const { return vectors * kPanel; }
  // Lanes below this see nothing of key j and later ones.
  int64_t hidden(int64_t j) const {
    return std::clamp<int64_t>((j + 1 - visible) * lanes_per_row - first_lane, 0, count());
  }
};

// What a pass over some keys gives: per lane the largest score, the sum of exponentials, and their mix of the values,
// [v_size][lanes], or [lanes][v_size] of HeadKeys::rows. Finite also where a lane saw no key.
struct Partial {
  float* top;
  float* sum;
  float* mix;
};

// One thread's room.
struct AttendScratch {
  float* q;
  float* scores;
  float* factor;
  Partial partial;
  std::byte* q_panels;
  std::byte* p_panels;
  float* sums;
};
std::vector<AttendScratch> attend_scratch(const CpuContext& context, int64_t size, int64_t v_size, bool packed);

// Passes over keys [begin, end), begin a multiple of kKeyBlock. kept (optional): [end - begin][lanes] gets the scores.
void attend_keys(const CpuContext& context, const HeadKeys& head, const Lanes& lanes, int64_t begin, int64_t end,
                 const Partial& partial, const AttendScratch& scratch, float* kept = nullptr);

// out[r] = softmax(scale q[r] K^T) V for `rows` <= max_lanes() rows. Row r sees the first visible + r * step keys (step
// 1: causal, 0: all the same). probe (optional): row r's softmax goes to probe + r * probe_stride.
struct AttendTask {
  const float* q;
  int64_t q_stride;
  int64_t rows;
  int64_t visible;
  int64_t step;
  float scale;
  float* out;
  int64_t out_stride;
  float* probe = nullptr;
  int64_t probe_stride = 0;
  int64_t probe_columns = 0;
};
void attend(const CpuContext& context, const HeadKeys& head, const AttendTask& task, const AttendScratch& scratch);

// The tiles of queries of several heads over a causal prompt, dealt so that all threads get early and late ones:
// fn(head, first row of the tile, thread). lanes: rows of a tile.
template <typename Fn>
void each_tile(const CpuContext& context, int64_t heads, int64_t rows, int64_t lanes, const Fn& fn) {
  const int64_t tiles = (rows + lanes - 1) / lanes;
  context.pool.parallel_for(heads * tiles, [&](int64_t task, int thread) {
    // A head's tiles one after the other, for its keys to stay in the caches; every other head backwards.
    const int64_t head = task / tiles, tile = task % tiles;
    fn(head, (head % 2 == 0 ? tile : tiles - 1 - tile) * lanes, thread);
  });
}

}  // namespace vl2::cpu

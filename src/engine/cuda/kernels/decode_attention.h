// Attention of answers' rows over the cache as it lies: pieces of the context side by side, then merged in order.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"
#include "engine/cuda/kernels/sequences.h"

namespace vl2::cuda {

// Softmax of every piece by itself, written by the first pass for the second. Query (a, h): answer row a (numbered by
// SequencesView::answer_rows), head h.
struct PiecesView {
  float* stats = nullptr;  // [a][h][piece][2]: highest score (times log2 e), sum of exponentials below it
  float* mix = nullptr;    // [a][h][piece][v_size]: sum of values, not divided
  int32_t heads = 0, v_size = 0;
  int32_t keys = 0;   // of a piece
  int32_t count = 0;  // pieces there is room for: of the longest context
};

int64_t pieces_bytes(int64_t answer_rows, int64_t heads, int64_t v_size, int64_t longest_context, int64_t keys);
PiecesView make_pieces(void* scratch, int64_t answer_rows, int64_t heads, int64_t v_size, int64_t longest_context,
                       int64_t keys);

inline constexpr int32_t kDecodeKeys = 64;  // keys of a piece of decode_pieces

// Row of a query in q: that of the batch, or its number among the answers' rows.
enum class QueryRows : uint8_t { kBatch, kAnswers };

// First pass, products in float32, whatever the cache holds. Head h reads group h / (heads / groups); group g's keys
// are columns [g * size, (g + 1) * size) of a cache row, its values [value_column + g * v_size, ...).
struct DecodeAttention {
  RowsView q;  // [rows, heads, size]
  QueryRows query_rows = QueryRows::kBatch;
  int32_t groups = 1;
  int32_t v_size = 0, value_column = 0;
  CacheView cache;
  SequencesView sequences;
  float scale = 1.0f;
  PiecesView pieces;  // of kDecodeKeys keys
};
void decode_pieces(const DecodeAttention& args, Stream stream);

// Second pass. out [rows, heads, v_size]
struct MergePieces {
  RowsView out;
  QueryRows out_rows = QueryRows::kBatch;
  SequencesView sequences;
  PiecesView pieces;
};
void merge_pieces(const MergePieces& args, Stream stream);

}  // namespace vl2::cuda

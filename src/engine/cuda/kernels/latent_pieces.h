// Absorbed latent attention of answers' rows on tensor cores: all heads of a sequence share every latent that is read.
#pragma once

#include "engine/cuda/kernels/decode_attention.h"

namespace vl2::cuda {

// First pass, as decode_pieces with one key group whose values are its first `rank` columns; queries, softmax weights
// and latents are bfloat16 where they enter a product.
struct LatentPieces {
  RowsView q;  // absorbed: [answers, heads, rank + R]
  int32_t rank = 0;
  CacheView cache;  // width rank + R
  SequencesView sequences;
  float scale = 1.0f;
  PiecesView pieces;  // keys: a multiple of 64
};

// Whether there is a kernel for these sizes; decode_pieces takes any.
bool latent_pieces_fit(int32_t rank, int32_t width);
// Keys of a piece: short ones while that gives idle multiprocessors work, long ones (less to merge) beyond.
int32_t latent_piece_keys(int32_t sequences, int32_t rows_of_longest, int32_t heads, int32_t longest_context,
                          int32_t multiprocessors);

void latent_pieces(const LatentPieces& args, Stream stream);

}  // namespace vl2::cuda

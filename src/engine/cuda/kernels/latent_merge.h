// Second pass and W_UV in one kernel, for a few answers: what merge_pieces and expand_values do one after the other.
#pragma once

#include "engine/cuda/kernels/decode_attention.h"
#include "engine/cuda/kernels/latent_weights.h"

namespace vl2::cuda {

// Every block merges a head's latents anew for its 32 outputs, so beyond this many answers two kernels are quicker.
inline constexpr int32_t kMergeExpandAnswers = 4;

// out [rows of the batch, heads, v]
struct MergeExpand {
  RowsView out;
  LatentMatrix weights;
  SequencesView sequences;
  PiecesView pieces;  // v_size: the rank
};
void merge_expand(const MergeExpand& args, Stream stream);

}  // namespace vl2::cuda

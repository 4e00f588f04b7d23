// W_UK and W_UV applied to answers' rows (spec: model 8): the weights are read once for up to eight rows.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"
#include "engine/cuda/kernels/sequences.h"

namespace vl2::cuda {

// W_kvb [heads * (qk_nope + v), rank], float32 or bfloat16: of each head W_UK, then W_UV.
struct LatentMatrix {
  MatrixView w;
  int32_t heads = 0, qk_nope = 0, v = 0;
};

// out[answer][h] = [W_UK[h]^T q_nope | q_pe]. q [rows of the batch, heads, qk_nope + R], out [answers, heads, rank +
// R]. Products and sums in float32.
struct AbsorbQueries {
  RowsView out, q;
  LatentMatrix weights;
  SequencesView sequences;
};
void absorb_queries(const AbsorbQueries& args, Stream stream);

// out[row of the batch][h] = W_UV[h] x[answer][h]. x [answers, heads, rank], out [rows of the batch, heads, v]
struct ExpandValues {
  RowsView out, x;
  LatentMatrix weights;
  SequencesView sequences;
};
void expand_values(const ExpandValues& args, Stream stream);

}  // namespace vl2::cuda

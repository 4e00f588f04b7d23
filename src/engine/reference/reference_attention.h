// The three attentions, one query row at a time.
#pragma once

#include <span>

#include "engine/ops/ops.h"

namespace vl2::reference {

void full_attention(Tensor out, Tensor qkv, int64_t heads, int64_t tokens_per_item);
void cached_attention(Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv, std::span<const SequenceSlice> sequences,
                      float scale, Tensor probe);
void latent_attention(Tensor out, Tensor q, Tensor c_kv, Tensor k_pe, const LatentWeights& w, KvLayer kv,
                      std::span<const SequenceSlice> sequences, float scale, Tensor probe);

}  // namespace vl2::reference

// The three attentions: answers' rows over the cache as it lies, prompts over keys and values that are packed first.
//
// T: rows, H: heads, G: key-value heads, K: head size, N: its part without position, R: rotated part, L: latent rank.
#include <algorithm>
#include <cmath>

#include "engine/cuda/cuda_cache.h"
#include "engine/cuda/cuda_context.h"
#include "engine/cuda/kernels/attention_pack.h"
#include "engine/cuda/kernels/attention_probe.h"
#include "engine/cuda/kernels/cache_append.h"
#include "engine/cuda/kernels/decode_attention.h"
#include "engine/cuda/kernels/flash_attention.h"
#include "engine/cuda/kernels/latent_pieces.h"
#include "engine/cuda/kernels/latent_weights.h"
#include "engine/cuda/kernels/rows.h"

namespace vl2::cuda {
namespace {

CacheView cache_view(KvLayer kv) { return static_cast<const CudaCache&>(*kv.cache).view(kv.layer); }

int32_t narrow(int64_t n) {
  VL2_CHECK(n >= 0 && n <= INT32_MAX);
  return static_cast<int32_t>(n);
}

// Packed keys and values of one sequence, or of items.
struct Packed {
  FlashSizes sizes;
  void *k, *v;
};

Packed packed_memory(const CudaContext& context, int64_t size, int64_t v_size, int64_t rows) {
  Packed p{flash_sizes(size, v_size, context.bf16_compute), nullptr, nullptr};
  const int64_t bytes = p.sizes.bf16 ? 2 : 4;
  p.k = context.workspace.bytes(static_cast<size_t>(rows * p.sizes.size * bytes));
  p.v = context.workspace.bytes(static_cast<size_t>(rows * p.sizes.v * bytes));
  return p;
}

// The rows of one sequence over what was packed of it.
void attend(const CudaContext& context, const Packed& packed, Tensor out_THV, Tensor q_THK, int64_t groups,
            int64_t past, float scale, Tensor probe) {
  const int64_t keys = past + q_THK.rows;
  FlashAttention flash;
  flash.out = rows_view(out_THV);
  flash.q = rows_view(q_THK);
  flash.k = packed.k;
  flash.v = packed.v;
  flash.bf16 = packed.sizes.bf16;
  flash.groups = narrow(groups);
  flash.rows = narrow(q_THK.rows);
  flash.keys = narrow(keys);
  flash.padded_size = packed.sizes.size;
  flash.padded_v = packed.sizes.v;
  flash.causal = true;
  flash.past = narrow(past);
  flash.scale = scale;
  flash_attention(flash, context.stream());
  if (probe.data == nullptr) return;
  attention_probe({rows_view(probe), rows_view(q_THK), packed.k, packed.sizes.bf16, narrow(groups), narrow(keys),
                   packed.sizes.size, narrow(past), scale},
                  context.stream());
}

// Prompts, and where somebody looks at the weights answers too, one sequence after the other: fn(slice, number).
template <typename Fn>
void each_prompt(std::span<const SequenceSlice> sequences, Tensor probe, const Fn& fn) {
  for (size_t i = 0; i < sequences.size(); ++i)
    if (!sequences[i].decode || probe.data != nullptr) fn(sequences[i]);
}

int32_t first_block(std::span<const SequenceSlice> sequences, const SequenceSlice& slice) {
  int64_t first = 0;
  for (const SequenceSlice& s : sequences) {
    if (&s == &slice) break;
    first += static_cast<int64_t>(s.blocks.size());
  }
  return narrow(first);
}

Tensor rows_of(Tensor x, const SequenceSlice& s) {
  return x.data == nullptr ? Tensor{} : x.row_range(s.begin, s.count);
}

}  // namespace

void full_attention(const CudaContext& context, Tensor out, Tensor qkv, int64_t heads, int64_t tokens) {
  if (out.rows == 0) return;
  Workspace::Scope scope(context.workspace);
  const int64_t width = out.cols, size = width / heads, items = out.rows / tokens;
  const Packed packed = packed_memory(context, size, size, out.rows * heads);
  Pack p;
  p.bf16 = packed.sizes.bf16;
  p.items = narrow(items);
  p.groups = narrow(heads);
  p.keys = narrow(tokens);
  p.out = packed.k;
  p.padded = packed.sizes.size;
  p.first = {qkv.data + width, qkv.row_stride, size, narrow(size), 0};
  pack(p, context.stream());
  p.out = packed.v;
  p.padded = packed.sizes.v;
  p.first.rows = qkv.data + 2 * width;
  pack(p, context.stream());
  FlashAttention flash;
  flash.out = rows_view(out.split_heads(heads));
  flash.q = rows_view(qkv.columns(0, width).split_heads(heads));
  flash.k = packed.k;
  flash.v = packed.v;
  flash.bf16 = packed.sizes.bf16;
  flash.items = narrow(items);
  flash.groups = narrow(heads);
  flash.rows = flash.keys = narrow(tokens);
  flash.padded_size = packed.sizes.size;
  flash.padded_v = packed.sizes.v;
  flash.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(size)));
  flash_attention(flash, context.stream());
}

void cached_attention(const CudaContext& context, Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv,
                      std::span<const SequenceSlice> sequences, float scale, Tensor probe) {
  if (q.rows == 0) return;
  const CacheView cache = cache_view(kv);
  const SequencesView view = context.tables.view(sequences);
  const int64_t size = q.cols, groups = k.heads;
  append_to_cache({rows_view(k), rows_view(v), cache, view}, context.stream());
  const Tensor out_THK = out.split_heads(q.heads);
  each_prompt(sequences, probe, [&](const SequenceSlice& s) {
    Workspace::Scope scope(context.workspace);
    const int64_t keys = s.past + s.count;
    const Packed packed = packed_memory(context, size, size, groups * keys);
    Pack p;
    p.bf16 = packed.sizes.bf16;
    p.groups = narrow(groups);
    p.keys = narrow(keys);
    p.cache = cache;
    p.blocks = view.block_table + first_block(sequences, s);
    p.out = packed.k;
    p.padded = packed.sizes.size;
    p.first = {nullptr, 0, size, narrow(size), 0};
    pack(p, context.stream());
    p.out = packed.v;
    p.padded = packed.sizes.v;
    p.first.column = narrow(groups * size);
    pack(p, context.stream());
    attend(context, packed, rows_of(out_THK, s), rows_of(q, s), groups, s.past, scale, rows_of(probe, s));
  });
  if (view.decode_rows == 0) return;
  Workspace::Scope scope(context.workspace);
  void* scratch = context.workspace.bytes(
      static_cast<size_t>(pieces_bytes(view.decode_rows, q.heads, size, view.longest_context, kDecodeKeys)));
  const PiecesView pieces = make_pieces(scratch, view.decode_rows, q.heads, size, view.longest_context, kDecodeKeys);
  decode_pieces({rows_view(q), QueryRows::kBatch, narrow(groups), narrow(size), narrow(groups * size), cache, view,
                 scale, pieces},
                context.stream());
  merge_pieces({rows_view(out_THK), QueryRows::kBatch, view, pieces}, context.stream());
}

namespace {

// One prompt: keys and values of its whole past expanded from their latents.
void expanded_attention(const CudaContext& context, Tensor out_THV, Tensor q_THK, const LatentWeights& w,
                        const CacheView& cache, const int32_t* blocks, int64_t past, float scale, Tensor probe) {
  Workspace::Scope scope(context.workspace);
  const int64_t keys = past + q_THK.rows, rank = w.rank, rope = q_THK.cols - w.qk_nope, per_head = w.qk_nope + w.v;
  const MatrixView& kv_b = matrix(w.weight);
  const bool bf16 = kv_b.format == MatrixFormat::kBf16 && context.bf16_compute;
  const int64_t padded_rank = (rank + 7) / 8 * 8;
  Pack p;
  p.bf16 = bf16;
  p.groups = 1;
  p.keys = narrow(keys);
  p.padded = narrow(padded_rank);
  p.cache = cache;
  p.blocks = blocks;
  p.out = context.workspace.bytes(static_cast<size_t>(keys * padded_rank * (bf16 ? 2 : 4)));
  p.first = {nullptr, 0, 0, narrow(rank), 0};
  pack(p, context.stream());
  Tensor expanded = context.workspace.tensor(keys, w.num_heads * per_head);
  Gemm g;
  g.type = bf16 ? ElementType::kBf16 : ElementType::kF32;
  g.x = p.out;
  g.x_stride = padded_rank;
  g.rows = keys;
  g.depth = rank;
  g.cols = kv_b.rows;
  g.w = kv_b.data;
  g.w_stride = kv_b.stride;
  g.out = expanded.data;
  g.out_stride = expanded.row_stride;
  (void)context.device.gemm(g);

  const Packed packed = packed_memory(context, q_THK.cols, w.v, w.num_heads * keys);
  p.bf16 = packed.sizes.bf16;
  p.groups = narrow(w.num_heads);
  p.out = packed.k;
  p.padded = packed.sizes.size;
  p.first = {expanded.data, expanded.row_stride, per_head, narrow(w.qk_nope), 0};
  p.second = {nullptr, 0, 0, narrow(rope), narrow(rank)};
  pack(p, context.stream());
  p.out = packed.v;
  p.padded = packed.sizes.v;
  p.first = {expanded.data + w.qk_nope, expanded.row_stride, per_head, narrow(w.v), 0};
  p.second = {};
  pack(p, context.stream());
  attend(context, packed, out_THV, q_THK, w.num_heads, past, scale, probe);
}

// Answers' rows: queries are taken to the latents instead.
void absorbed_attention(const CudaContext& context, Tensor out_THV, Tensor q_THK, const LatentWeights& w,
                        const CacheView& cache, const SequencesView& view, float scale) {
  Workspace::Scope scope(context.workspace);
  const LatentMatrix weights{matrix(w.weight), narrow(w.num_heads), narrow(w.qk_nope), narrow(w.v)};
  Tensor absorbed = context.workspace.tensor(view.decode_rows, w.num_heads * cache.width).split_heads(w.num_heads);
  absorb_queries({rows_view(absorbed), rows_view(q_THK), weights, view}, context.stream());
  const int32_t rank = narrow(w.rank);
  const bool fast = context.bf16_compute && latent_pieces_fit(rank, cache.width);
  const int32_t keys = fast ? latent_piece_keys(view.num_sequences, view.longest_count, narrow(w.num_heads),
                                                view.longest_context, context.device.properties().multiprocessors)
                            : kDecodeKeys;
  void* scratch = context.workspace.bytes(
      static_cast<size_t>(pieces_bytes(view.decode_rows, w.num_heads, rank, view.longest_context, keys)));
  const PiecesView pieces = make_pieces(scratch, view.decode_rows, w.num_heads, rank, view.longest_context, keys);
  if (fast) {
    latent_pieces({rows_view(absorbed), rank, cache, view, scale, pieces}, context.stream());
  } else {
    decode_pieces({rows_view(absorbed), QueryRows::kAnswers, 1, rank, 0, cache, view, scale, pieces}, context.stream());
  }
  Tensor mixed = context.workspace.tensor(view.decode_rows, w.num_heads * rank).split_heads(w.num_heads);
  merge_pieces({rows_view(mixed), QueryRows::kAnswers, view, pieces}, context.stream());
  expand_values({rows_view(out_THV), rows_view(mixed), weights, view}, context.stream());
}

}  // namespace

void latent_attention(const CudaContext& context, Tensor out, Tensor q, Tensor c_kv, Tensor k_pe,
                      const LatentWeights& w, KvLayer kv, std::span<const SequenceSlice> sequences, float scale,
                      Tensor probe) {
  if (q.rows == 0) return;
  const CacheView cache = cache_view(kv);
  const SequencesView view = context.tables.view(sequences);
  append_to_cache({rows_view(c_kv), rows_view(k_pe), cache, view}, context.stream());
  const Tensor out_THV = out.split_heads(w.num_heads);
  each_prompt(sequences, probe, [&](const SequenceSlice& s) {
    expanded_attention(context, rows_of(out_THV, s), rows_of(q, s), w, cache,
                       view.block_table + first_block(sequences, s), s.past, scale, rows_of(probe, s));
  });
  if (view.decode_rows > 0) absorbed_attention(context, out_THV, q, w, cache, view, scale);
}

}  // namespace vl2::cuda

#include "engine/cuda/kernels/attention_probe.h"
#include "engine/cuda/kernels/check_argument.h"
#include "engine/cuda/kernels/latent_attention.h"
#include "engine/cuda/kernels/latent_merge.h"
#include "engine/cuda/kernels/latent_pieces.h"
#include "engine/cuda/kernels/packed_keys.h"

namespace vl2::cuda {
namespace {

// Keys (k_nope beside the rotated part, which all heads share) and values from what W_kvb gave.
Pack expanded_keys(const LatentPrompt& args, void* out, bool bf16, int32_t padded) {
  const auto v = static_cast<int32_t>(args.out.cols), rope = static_cast<int32_t>(args.q.cols) - args.qk_nope;
  return {.out = out,
          .bf16 = bf16,
          .items = 1,
          .groups = static_cast<int32_t>(args.q.heads),
          .keys = args.past + static_cast<int32_t>(args.q.rows),
          .padded = padded,
          .first = {args.kv, args.kv_stride, args.qk_nope + v, args.qk_nope, 0},
          .second = {nullptr, 0, 0, rope, args.rank},
          .cache = args.cache,
          .blocks = args.blocks};
}

// How latent_answers cuts the work and its scratch.
struct AnswersPlan {
  bool bf16 = false;  // on tensor cores
  int64_t answers, heads, rank, width;
  int32_t piece_keys;
  int64_t queries_bytes, mix_bytes, pieces_bytes;

  explicit AnswersPlan(const LatentAnswers& a)
      : answers(a.sequences.decode_rows),
        heads(a.weights.heads),
        rank(a.weights.w.cols),
        width(rank + a.q.cols - a.weights.qk_nope) {
    const SequencesView& s = a.sequences;
    bf16 = a.bf16 && latent_pieces_fit(static_cast<int32_t>(rank), static_cast<int32_t>(width));
    piece_keys =
        bf16 ? latent_piece_keys(s.num_sequences, 1, static_cast<int32_t>(heads), s.longest_context, a.multiprocessors)
             : kDecodeKeys;
    const auto bytes = [](int64_t floats) { return (floats * static_cast<int64_t>(sizeof(float)) + 255) / 256 * 256; };
    queries_bytes = bytes(answers * heads * width);
    mix_bytes = bytes(answers * heads * rank);
    pieces_bytes = vl2::cuda::pieces_bytes(answers, heads, rank, s.longest_context, piece_keys);
  }
};

}  // namespace

void gather_latents(const GatherLatents& args, Stream stream) {
  pack({.out = args.out,
        .bf16 = args.bf16,
        .items = 1,
        .groups = 1,
        .keys = args.keys,
        .padded = args.stride,
        .first = {nullptr, 0, 0, args.rank, 0},
        .second = {},
        .cache = args.cache,
        .blocks = args.blocks},
       stream);
}

int64_t latent_prompt_bytes(int64_t keys, int64_t heads, int64_t size, int64_t v, bool bf16) {
  return packed_bytes(flash_sizes(size, v, bf16), keys * heads);
}

void latent_prompt(const LatentPrompt& args, Stream stream) {
  if (args.q.rows == 0) return;
  const FlashSizes sizes = flash_sizes(args.q.cols, args.out.cols, args.bf16);
  const int32_t keys = args.past + static_cast<int32_t>(args.q.rows);
  const PackedKeys packed = packed_keys(args.scratch, sizes, keys * args.q.heads);
  pack(expanded_keys(args, packed.k, sizes.bf16, sizes.size), stream);
  Pack values = expanded_keys(args, packed.v, sizes.bf16, sizes.v);
  values.first.rows += args.qk_nope;
  values.first.cols = static_cast<int32_t>(args.out.cols);
  values.second = {};
  pack(values, stream);
  flash_attention({.out = args.out,
                   .q = args.q,
                   .k = packed.k,
                   .v = packed.v,
                   .bf16 = sizes.bf16,
                   .items = 1,
                   .groups = static_cast<int32_t>(args.q.heads),
                   .rows = static_cast<int32_t>(args.q.rows),
                   .keys = keys,
                   .padded_size = sizes.size,
                   .padded_v = sizes.v,
                   .causal = true,
                   .past = args.past,
                   .scale = args.scale},
                  stream);
}

void latent_probe(const LatentPrompt& args, const RowsView& probe, Stream stream) {
  if (args.q.rows == 0) return;
  const FlashSizes sizes = flash_sizes(args.q.cols, args.out.cols, false);
  pack(expanded_keys(args, args.scratch, false, sizes.size), stream);
  probe_attention({.probe = probe,
                   .q = args.q,
                   .k = static_cast<const float*>(args.scratch),
                   .groups = static_cast<int32_t>(args.q.heads),
                   .keys = args.past + static_cast<int32_t>(args.q.rows),
                   .padded = sizes.size,
                   .past = args.past,
                   .scale = args.scale},
                  stream);
}

int64_t latent_answers_bytes(const LatentAnswers& args) {
  const AnswersPlan plan(args);
  return plan.queries_bytes + plan.mix_bytes + plan.pieces_bytes;
}

void latent_answers(const LatentAnswers& args, Stream stream) {
  const AnswersPlan p(args);
  check_argument(p.width == args.cache.width && args.q.heads == p.heads && args.out.cols == args.weights.v,
                 "latent_answers", "queries, weights and cache of the same model");
  if (p.answers == 0) return;
  auto* const scratch = static_cast<char*>(args.scratch);
  const RowsView queries{reinterpret_cast<float*>(scratch), p.answers, p.heads, p.width, p.heads * p.width, p.width};
  const RowsView mix{
      reinterpret_cast<float*>(scratch + p.queries_bytes), p.answers, p.heads, p.rank, p.heads * p.rank, p.rank};
  const PiecesView pieces = make_pieces(scratch + p.queries_bytes + p.mix_bytes, p.answers, p.heads, p.rank,
                                        args.sequences.longest_context, p.piece_keys);
  absorb_queries({.out = queries, .q = args.q, .weights = args.weights, .sequences = args.sequences}, stream);
  if (p.bf16) {
    latent_pieces({.q = queries,
                   .rank = static_cast<int32_t>(p.rank),
                   .cache = args.cache,
                   .sequences = args.sequences,
                   .scale = args.scale,
                   .pieces = pieces},
                  stream);
  } else {
    decode_pieces({.q = queries,
                   .query_rows = QueryRows::kAnswers,
                   .groups = 1,
                   .v_size = static_cast<int32_t>(p.rank),
                   .value_column = 0,
                   .cache = args.cache,
                   .sequences = args.sequences,
                   .scale = args.scale,
                   .pieces = pieces},
                  stream);
  }
  if (p.answers <= kMergeExpandAnswers) {
    merge_expand({.out = args.out, .weights = args.weights, .sequences = args.sequences, .pieces = pieces}, stream);
    return;
  }
  merge_pieces({.out = mix, .out_rows = QueryRows::kAnswers, .sequences = args.sequences, .pieces = pieces}, stream);
  expand_values({.out = args.out, .x = mix, .weights = args.weights, .sequences = args.sequences}, stream);
}

}  // namespace vl2::cuda

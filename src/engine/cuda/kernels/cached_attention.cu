#include "engine/cuda/kernels/attention_probe.h"
#include "engine/cuda/kernels/cached_attention.h"
#include "engine/cuda/kernels/decode_attention.h"
#include "engine/cuda/kernels/packed_keys.h"

namespace vl2::cuda {
namespace {

// The keys (first: 0) or values (first: groups) of every group, out of the cache.
Pack from_cache(const CachedPrompt& args, void* out, bool bf16, int32_t padded, int32_t first) {
  const auto size = static_cast<int32_t>(args.q.cols);
  return {.out = out,
          .bf16 = bf16,
          .items = 1,
          .groups = args.groups,
          .keys = args.past + static_cast<int32_t>(args.q.rows),
          .padded = padded,
          .first = {nullptr, 0, size, size, first * size},
          .second = {},
          .cache = args.cache,
          .blocks = args.blocks};
}

}  // namespace

int64_t cached_prompt_bytes(int64_t keys, int64_t groups, int64_t size, bool bf16) {
  return packed_bytes(flash_sizes(size, size, bf16), keys * groups);
}

void cached_prompt(const CachedPrompt& args, Stream stream) {
  if (args.q.rows == 0) return;
  const FlashSizes sizes = flash_sizes(args.q.cols, args.q.cols, args.bf16);
  const int32_t keys = args.past + static_cast<int32_t>(args.q.rows);
  const PackedKeys packed = packed_keys(args.scratch, sizes, static_cast<int64_t>(keys) * args.groups);
  pack(from_cache(args, packed.k, sizes.bf16, sizes.size, 0), stream);
  pack(from_cache(args, packed.v, sizes.bf16, sizes.v, args.groups), stream);
  flash_attention({.out = args.out,
                   .q = args.q,
                   .k = packed.k,
                   .v = packed.v,
                   .bf16 = sizes.bf16,
                   .items = 1,
                   .groups = args.groups,
                   .rows = static_cast<int32_t>(args.q.rows),
                   .keys = keys,
                   .padded_size = sizes.size,
                   .padded_v = sizes.v,
                   .causal = true,
                   .past = args.past,
                   .scale = args.scale},
                  stream);
}

void cached_probe(const CachedPrompt& args, const RowsView& probe, Stream stream) {
  if (args.q.rows == 0) return;
  const FlashSizes sizes = flash_sizes(args.q.cols, args.q.cols, false);
  pack(from_cache(args, args.scratch, false, sizes.size, 0), stream);
  probe_attention({.probe = probe,
                   .q = args.q,
                   .k = static_cast<const float*>(args.scratch),
                   .groups = args.groups,
                   .keys = args.past + static_cast<int32_t>(args.q.rows),
                   .padded = sizes.size,
                   .past = args.past,
                   .scale = args.scale},
                  stream);
}

int64_t cached_answers_bytes(const SequencesView& sequences, int64_t heads, int64_t size) {
  return pieces_bytes(sequences.decode_rows, heads, size, sequences.longest_context, kDecodeKeys);
}

void cached_answers(const CachedAnswers& args, Stream stream) {
  const int64_t heads = args.q.heads, size = args.q.cols;
  const PiecesView pieces =
      make_pieces(args.scratch, args.sequences.decode_rows, heads, size, args.sequences.longest_context, kDecodeKeys);
  decode_pieces({.q = args.q,
                 .query_rows = QueryRows::kBatch,
                 .groups = args.groups,
                 .v_size = static_cast<int32_t>(size),
                 .value_column = args.groups * static_cast<int32_t>(size),
                 .cache = args.cache,
                 .sequences = args.sequences,
                 .scale = args.scale,
                 .pieces = pieces},
                stream);
  merge_pieces({.out = args.out, .out_rows = QueryRows::kBatch, .sequences = args.sequences, .pieces = pieces}, stream);
}

}  // namespace vl2::cuda

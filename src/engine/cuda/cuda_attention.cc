// The three attentions: answers' rows of a batch together, prompts one sequence after the other.
//
// T: rows, H: heads, K: head size, V: value head size.
#include <algorithm>

#include "engine/cuda/cuda_cache.h"
#include "engine/cuda/cuda_context.h"
#include "engine/cuda/kernels/cache_append.h"
#include "engine/cuda/kernels/cached_attention.h"
#include "engine/cuda/kernels/full_attention.h"
#include "engine/cuda/kernels/latent_attention.h"

namespace vl2::cuda {
namespace {

// Keys and values of a prompt's past are expanded for as many heads at a time as fit in this much memory.
constexpr int64_t kExpandedBytes = int64_t{256} << 20;

CacheView cache_view(KvLayer kv) { return static_cast<const CudaCache&>(*kv.cache).view(kv.layer); }

int32_t narrow(int64_t n) {
  VL2_CHECK(n >= 0 && n <= INT32_MAX);
  return static_cast<int32_t>(n);
}

// Scratch a multiple of 256 bytes from the start of the device's allocations.
void* scratch(const CudaContext& context, int64_t bytes) {
  std::byte* memory = context.workspace.bytes(static_cast<size_t>(bytes) + 256);
  return memory + (256 - reinterpret_cast<uintptr_t>(memory) % 256) % 256;
}

// fn(slice, its blocks on the device) for every sequence that wanted(slice) picks.
template <typename Wanted, typename Fn>
void each_sequence(std::span<const SequenceSlice> sequences, const SequencesView& view, const Wanted& wanted,
                   const Fn& fn) {
  const int32_t* blocks = view.block_table;
  for (const SequenceSlice& s : sequences) {
    if (wanted(s)) fn(s, blocks);
    blocks += s.blocks.size();
  }
}

bool is_prompt(const SequenceSlice& s) { return !s.decode; }
bool is_any(const SequenceSlice&) { return true; }

}  // namespace

void full_attention(const CudaContext& context, Tensor out, Tensor qkv, int64_t heads, int64_t tokens) {
  if (out.rows == 0) return;
  Workspace::Scope scope(context.workspace);
  const bool bf16 = context.bf16_compute;
  full_attention({rows_view(out.split_heads(heads)), rows_view(qkv), narrow(tokens), bf16,
                  scratch(context, full_attention_bytes(out.rows, heads, out.cols / heads, bf16))},
                 context.stream());
}

void cached_attention(const CudaContext& context, Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv,
                      std::span<const SequenceSlice> sequences, float scale, Tensor probe) {
  if (q.rows == 0) return;
  const CacheView cache = cache_view(kv);
  const SequencesView view = context.tables.view(sequences);
  const int64_t groups = k.heads;
  append_to_cache({rows_view(k), rows_view(v), cache, view}, context.stream());
  const Tensor out_THK = out.split_heads(q.heads);
  const auto prompt = [&](const SequenceSlice& s, const int32_t* blocks, bool bf16) {
    CachedPrompt p{rows_view(out_THK.row_range(s.begin, s.count)),
                   rows_view(q.row_range(s.begin, s.count)),
                   cache,
                   blocks,
                   narrow(groups),
                   narrow(s.past),
                   scale,
                   bf16,
                   nullptr};
    p.scratch = scratch(context, cached_prompt_bytes(s.past + s.count, groups, q.cols, bf16));
    return p;
  };
  each_sequence(sequences, view, is_prompt, [&](const SequenceSlice& s, const int32_t* blocks) {
    Workspace::Scope scope(context.workspace);
    cached_prompt(prompt(s, blocks, context.bf16_compute), context.stream());
  });
  if (view.decode_rows > 0) {
    Workspace::Scope scope(context.workspace);
    cached_answers({rows_view(out_THK), rows_view(q), cache, view, narrow(groups), scale,
                    scratch(context, cached_answers_bytes(view, q.heads, q.cols))},
                   context.stream());
  }
  if (probe.data == nullptr) return;
  each_sequence(sequences, view, is_any, [&](const SequenceSlice& s, const int32_t* blocks) {
    Workspace::Scope scope(context.workspace);
    cached_probe(prompt(s, blocks, false), rows_view(probe.row_range(s.begin, s.count)), context.stream());
  });
}

namespace {

struct LatentCall {
  const CudaContext& context;
  Tensor out_THV, q_THK;
  const LatentWeights& w;
  CacheView cache;
  float scale;

  // One sequence, a range of its heads: run(arguments of these heads, first head).
  template <typename Run>
  void expanded(const SequenceSlice& s, const int32_t* blocks, bool bf16, const Run& run) const {
    Workspace::Scope scope(context.workspace);
    const MatrixView& kv_b = matrix(w.weight);
    const int64_t keys = s.past + s.count, per_head = w.qk_nope + w.v, stride = (w.rank + 7) / 8 * 8;
    const bool narrow_product = kv_b.format == MatrixFormat::kBf16;
    void* latents = scratch(context, keys * stride * (narrow_product ? 2 : 4));
    gather_latents({latents, narrow_product, narrow(stride), narrow(keys), narrow(w.rank), cache, blocks},
                   context.stream());
    const int64_t fit = std::clamp<int64_t>(kExpandedBytes / (keys * per_head * 4), 1, w.num_heads);
    for (int64_t h = 0; h < w.num_heads; h += fit) {
      const int64_t heads = std::min(fit, w.num_heads - h);
      Workspace::Scope heads_scope(context.workspace);
      Tensor kv = context.workspace.tensor(keys, heads * per_head);
      multiply(kv, latents, stride, kv_b, h * per_head);
      const auto of_heads = [&](Tensor x) {
        x = x.row_range(s.begin, s.count);
        return Tensor{x.data + h * x.head_stride, x.rows, heads, x.cols, x.row_stride, x.head_stride};
      };
      LatentPrompt p{rows_view(of_heads(out_THV)),
                     rows_view(of_heads(q_THK)),
                     kv.data,
                     kv.row_stride,
                     narrow(w.qk_nope),
                     narrow(w.rank),
                     cache,
                     blocks,
                     narrow(s.past),
                     scale,
                     bf16,
                     nullptr};
      p.scratch = scratch(context, latent_prompt_bytes(keys, heads, q_THK.cols, w.v, bf16));
      run(p, h);
    }
  }

  // out = latents W^T for out.cols rows of W from `first` on.
  void multiply(Tensor out, const void* latents, int64_t stride, const MatrixView& kv_b, int64_t first) const {
    const bool bf16 = kv_b.format == MatrixFormat::kBf16;
    Gemm g;
    g.type = bf16 ? ElementType::kBf16 : ElementType::kF32;
    g.x = latents;
    g.x_stride = stride;
    g.rows = out.rows;
    g.depth = w.rank;
    g.cols = out.cols;
    g.w = static_cast<const std::byte*>(kv_b.data) + first * kv_b.stride * (bf16 ? 2 : 4);
    g.w_stride = kv_b.stride;
    g.out = out.data;
    g.out_stride = out.row_stride;
    (void)context.device.gemm(g);  // without a bias nothing is left to do
  }
};

}  // namespace

void latent_attention(const CudaContext& context, Tensor out, Tensor q, Tensor c_kv, Tensor k_pe,
                      const LatentWeights& w, KvLayer kv, std::span<const SequenceSlice> sequences, float scale,
                      Tensor probe) {
  if (q.rows == 0) return;
  const CacheView cache = cache_view(kv);
  const SequencesView view = context.tables.view(sequences);
  append_to_cache({rows_view(c_kv), rows_view(k_pe), cache, view}, context.stream());
  const LatentCall call{context, out.split_heads(w.num_heads), q, w, cache, scale};
  each_sequence(sequences, view, is_prompt, [&](const SequenceSlice& s, const int32_t* blocks) {
    call.expanded(s, blocks, context.bf16_compute,
                  [&](const LatentPrompt& p, int64_t) { latent_prompt(p, context.stream()); });
  });
  if (view.decode_rows > 0) {
    Workspace::Scope scope(context.workspace);
    LatentAnswers a;
    a.out = rows_view(call.out_THV);
    a.q = rows_view(q);
    a.weights = {matrix(w.weight), narrow(w.num_heads), narrow(w.qk_nope), narrow(w.v)};
    a.cache = cache;
    a.sequences = view;
    a.scale = scale;
    a.bf16 = context.bf16_compute;
    a.multiprocessors = context.device.properties().multiprocessors;
    a.scratch = scratch(context, latent_answers_bytes(a));
    latent_answers(a, context.stream());
  }
  if (probe.data == nullptr) return;
  each_sequence(sequences, view, is_any, [&](const SequenceSlice& s, const int32_t* blocks) {
    call.expanded(s, blocks, false, [&](const LatentPrompt& p, int64_t first_head) {
      Tensor rows = probe.row_range(s.begin, s.count);
      rows.data += first_head * rows.head_stride;
      rows.heads = p.q.heads;
      latent_probe(p, rows_view(rows), context.stream());
    });
  });
}

}  // namespace vl2::cuda

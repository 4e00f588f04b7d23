// Multi-head latent attention (spec: model 6.4, 8).
//
// Rows of a prompt: keys and values of every head are expanded from the latents once, and attention runs on them as
// panels. Rows of an answer: W_UK is absorbed into the queries and W_UV into the output, so that the cache is read
// once, as it lies, for all heads together - one key head of size rank + R, whose first rank columns are also the
// values.
#include <algorithm>
#include <cmath>

#include "engine/cpu/attend.h"
#include "engine/cpu/cpu_cache.h"
#include "engine/cpu/cpu_context.h"

namespace vl2::cpu {
namespace {

// Heads whose expanded keys and values are in memory together.
constexpr int64_t kHeadsAtOnce = 8;
// Keys of one piece of work of an absorbed row. Fixed, so that a result does not depend on the number of threads.
constexpr int64_t kKeysPerPiece = 256;

struct Problem {
  const CpuContext& context;
  const CpuCache& cache;
  int64_t layer;
  Tensor out, q;
  const LatentWeights& w;
  const LatentStorage& weights;
  int64_t rope;
  float scale;
  Tensor probe;
};

void expanded(const Problem& p, const SequenceSlice& s) {
  const CpuContext& context = p.context;
  const int64_t total = s.past + s.count, nope = p.w.qk_nope, size = nope + p.rope, rank = p.w.rank, v = p.w.v;
  const Format format = context.activation_format();
  const GemmKernel& kernel = context.gemm(p.weights.uk.front()->format);
  Workspace::Scope scope(context.workspace);
  Tensor latents = context.workspace.tensor(total, rank);
  Tensor k_pe = context.workspace.tensor(total, p.rope);
  p.cache.gather(p.layer, s.blocks, total, 0, rank, latents.data);
  p.cache.gather(p.layer, s.blocks, total, rank, p.rope, k_pe.data);
  const PackedRows a = pack_activations(context, kernel, latents, nullptr, total);

  std::vector<HeadPanels> panels;
  for (int64_t h = 0; h < std::min(kHeadsAtOnce, p.w.num_heads); ++h)
    panels.push_back(allocate_panels(context, total, size, v));
  const std::vector<float*> rows = thread_scratch(context, total * std::max(size, v));
  const std::vector<float*> sums = thread_scratch(context, gemm_scratch_floats(total));
  const std::vector<AttendScratch> scratch = attend_scratch(context, total, size, v);
  const int64_t blocks = (s.count + kQueryRows - 1) / kQueryRows;

  for (int64_t first = 0; first < p.w.num_heads; first += kHeadsAtOnce) {
    const int64_t heads = std::min(kHeadsAtOnce, p.w.num_heads - first);
    context.pool.parallel_for(heads, [&](int64_t i, int thread) {
      const auto h = static_cast<size_t>(first + i);
      float* buffer = rows[static_cast<size_t>(thread)];
      const HeadPanels& head = panels[static_cast<size_t>(i)];
      multiply(kernel, a.data, total, p.weights.uk[h]->panel(0), nope, rank, buffer, size,
               sums[static_cast<size_t>(thread)]);
      for (int64_t t = 0; t < total; ++t) std::copy_n(k_pe.row(t), p.rope, buffer + t * size + nope);
      pack_panels(context.kernels, format, buffer, size, total, size, head.k);
      multiply(kernel, a.data, total, p.weights.uv[h]->panel(0), v, rank, buffer, v, sums[static_cast<size_t>(thread)]);
      pack_panels_transposed(context.kernels, format, buffer, v, v, total, head.v);
    });
    context.pool.parallel_for(blocks * heads, [&](int64_t task, int thread) {
      const int64_t i = task % heads, h = first + i, r = task / heads * kQueryRows, row = s.begin + r;
      AttendTask attend_task{
          p.q.at(row, h),         p.q.row_stride,  std::min(kQueryRows, s.count - r), s.past + r + 1, 1, p.scale,
          p.out.row(row) + h * v, p.out.row_stride};
      if (p.probe.data != nullptr) {
        attend_task.probe = p.probe.at(row, h);
        attend_task.probe_stride = p.probe.row_stride;
        attend_task.probe_columns = p.probe.cols;
      }
      attend(context, panels[static_cast<size_t>(i)], attend_task, scratch[static_cast<size_t>(thread)]);
    });
  }
}

// A query row and the pieces its keys are cut into.
struct Row {
  const SequenceSlice* sequence;
  int64_t row;
  int64_t keys;
  int64_t first_piece;
};

struct Piece {
  int64_t row;  // index into rows
  int64_t begin, end;
};

// Partial softmax of one piece: per head its largest score, the sum of exponentials and the mix of latents.
struct Partial {
  float* top;
  float* sum;
  float* mix;  // [heads][rank]
};

template <typename T>
void score_piece(const Problem& p, const SequenceSlice& s, const Piece& piece, const float* query, int64_t query_stride,
                 float* scores, const Partial& partial) {
  const KernelTable& kernels = p.context.kernels;
  const int64_t heads = p.w.num_heads, tokens = p.cache.block_tokens(), width = p.cache.width(), rank = p.w.rank;
  const int64_t keys = piece.end - piece.begin;
  const auto each_block = [&](const auto& fn) {
    for (int64_t j = piece.begin; j < piece.end;) {
      const int64_t inside = j % tokens, n = std::min(tokens - inside, piece.end - j);
      fn(p.cache.block<T>(p.layer, s.blocks[static_cast<size_t>(j / tokens)]) + inside * width, j - piece.begin, n);
      j += n;
    }
  };
  each_block([&](const T* x, int64_t j, int64_t n) {
    if constexpr (std::is_same_v<T, float>) {
      kernels.dot_rows_f32(query, query_stride, heads, x, width, n, width, scores + j, keys);
    } else {
      kernels.dot_rows_bf16(query, query_stride, heads, x, width, n, width, scores + j, keys);
    }
  });
  for (int64_t h = 0; h < heads; ++h)
    partial.sum[h] = kernels.exp_row(scores + h * keys, keys, p.scale, partial.top + h);
  std::fill_n(partial.mix, heads * rank, 0.0f);
  each_block([&](const T* x, int64_t j, int64_t n) {
    if constexpr (std::is_same_v<T, float>) {
      kernels.mix_rows_f32(scores + j, keys, heads, x, width, n, rank, partial.mix, rank);
    } else {
      kernels.mix_rows_bf16(scores + j, keys, heads, x, width, n, rank, partial.mix, rank);
    }
  });
}

void absorbed(const Problem& p, std::span<const SequenceSlice> sequences) {
  const CpuContext& context = p.context;
  const int64_t heads = p.w.num_heads, rank = p.w.rank, width = rank + p.rope;
  std::vector<Row> rows;
  std::vector<Piece> pieces;
  std::vector<int32_t> batch_rows;
  for (const SequenceSlice& s : sequences) {
    if (!s.decode) continue;
    for (int64_t i = 0; i < s.count; ++i) {
      const int64_t keys = s.past + i + 1;
      rows.push_back({&s, s.begin + i, keys, static_cast<int64_t>(pieces.size())});
      batch_rows.push_back(static_cast<int32_t>(s.begin + i));
      for (int64_t j = 0; j < keys; j += kKeysPerPiece)
        pieces.push_back({static_cast<int64_t>(rows.size()) - 1, j, std::min(j + kKeysPerPiece, keys)});
    }
  }
  if (rows.empty()) return;
  const auto num_rows = static_cast<int64_t>(rows.size()), num_pieces = static_cast<int64_t>(pieces.size());
  Workspace::Scope scope(context.workspace);

  // Queries in latent space: [row][head][rank | R].
  Tensor absorbed_q = context.workspace.tensor(num_rows, heads * width);
  const GemmKernel& kernel = context.gemm(p.weights.uk.front()->format);
  const int64_t packed_size =
      std::max(kernel.packed_a_bytes(num_rows, p.w.qk_nope), kernel.packed_a_bytes(num_rows, rank));
  std::vector<std::byte*> packed_rows;
  for (int t = 0; t < context.pool.num_threads(); ++t)
    packed_rows.push_back(context.workspace.bytes(static_cast<size_t>(packed_size)));
  const std::vector<float*> sums = thread_scratch(context, gemm_scratch_floats(num_rows));
  context.pool.parallel_for(heads, [&](int64_t h, int thread) {
    const auto t = static_cast<size_t>(thread);
    kernel.pack_a(p.q.at(0, h), p.q.row_stride, batch_rows.data(), num_rows, p.w.qk_nope, packed_rows[t]);
    multiply(kernel, packed_rows[t], num_rows, p.weights.uk_transposed[static_cast<size_t>(h)]->panel(0), rank,
             p.w.qk_nope, absorbed_q.data + h * width, heads * width, sums[t]);
    for (int64_t r = 0; r < num_rows; ++r)
      std::copy_n(p.q.at(batch_rows[static_cast<size_t>(r)], h) + p.w.qk_nope, p.rope,
                  absorbed_q.row(r) + h * width + rank);
  });

  const auto top = context.workspace.array<float>(num_pieces * heads);
  const auto sum = context.workspace.array<float>(num_pieces * heads);
  const auto mix = context.workspace.array<float>(num_pieces * heads * rank);
  const auto scores = context.workspace.array<float>(num_pieces * heads * kKeysPerPiece);
  context.pool.parallel_for(num_pieces, [&](int64_t i, int) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    const Row& row = rows[static_cast<size_t>(piece.row)];
    const Partial partial{top.data() + i * heads, sum.data() + i * heads, mix.data() + i * heads * rank};
    float* piece_scores = scores.data() + i * heads * kKeysPerPiece;
    const float* query = absorbed_q.row(piece.row);
    if (p.cache.bf16()) {
      score_piece<BF16>(p, *row.sequence, piece, query, width, piece_scores, partial);
    } else {
      score_piece<float>(p, *row.sequence, piece, query, width, piece_scores, partial);
    }
  });

  // Pieces of a row are merged in order, then W_UV brings each head back from latent space.
  Tensor merged = context.workspace.tensor(num_rows, heads * rank);
  context.pool.parallel_for(heads, [&](int64_t h, int thread) {
    const auto t = static_cast<size_t>(thread);
    for (int64_t r = 0; r < num_rows; ++r) {
      const Row& row = rows[static_cast<size_t>(r)];
      const int64_t count = (row.keys + kKeysPerPiece - 1) / kKeysPerPiece;
      float highest = -INFINITY;
      for (int64_t i = row.first_piece; i < row.first_piece + count; ++i)
        highest = std::max(highest, top[static_cast<size_t>(i * heads + h)]);
      float* u = merged.row(r) + h * rank;
      std::fill_n(u, rank, 0.0f);
      float whole = 0;
      for (int64_t i = row.first_piece; i < row.first_piece + count; ++i) {
        const float weight = std::exp(top[static_cast<size_t>(i * heads + h)] - highest);
        whole += weight * sum[static_cast<size_t>(i * heads + h)];
        context.kernels.add_scaled_row(u, mix.data() + (i * heads + h) * rank, weight, rank);
      }
      context.kernels.scale_row(u, rank, 1.0f / whole);
      if (p.probe.data == nullptr) continue;
      float* probe = p.probe.at(row.row, h);
      std::fill_n(probe, p.probe.cols, 0.0f);
      for (int64_t i = row.first_piece; i < row.first_piece + count; ++i) {
        const Piece& piece = pieces[static_cast<size_t>(i)];
        const float* s = scores.data() + i * heads * kKeysPerPiece + h * (piece.end - piece.begin);
        const float weight = std::exp(top[static_cast<size_t>(i * heads + h)] - highest) / whole;
        std::transform(s, s + (piece.end - piece.begin), probe + piece.begin, [&](float x) { return x * weight; });
      }
    }
    kernel.pack_a(merged.data + h * rank, merged.row_stride, nullptr, num_rows, rank, packed_rows[t]);
    std::vector<float> o(static_cast<size_t>(num_rows * p.w.v));
    multiply(kernel, packed_rows[t], num_rows, p.weights.uv[static_cast<size_t>(h)]->panel(0), p.w.v, rank, o.data(),
             p.w.v, sums[t]);
    for (int64_t r = 0; r < num_rows; ++r)
      std::copy_n(o.data() + r * p.w.v, p.w.v, p.out.row(rows[static_cast<size_t>(r)].row) + h * p.w.v);
  });
}

}  // namespace

void latent_attention(const CpuContext& context, Tensor out, Tensor q, Tensor c_kv, Tensor k_pe, const LatentWeights& w,
                      KvLayer kv, std::span<const SequenceSlice> sequences, float scale, Tensor probe) {
  auto& cache = static_cast<CpuCache&>(*kv.cache);
  for (const SequenceSlice& s : sequences) {
    for (int64_t i = 0; i < s.count; ++i) {
      cache.write(kv.layer, s.blocks, s.past + i, 0, c_kv.row(s.begin + i), w.rank);
      cache.write(kv.layer, s.blocks, s.past + i, w.rank, k_pe.row(s.begin + i), k_pe.cols);
    }
  }
  const Problem problem{context,   cache, kv.layer, out, q, w, static_cast<const LatentStorage&>(*w.weight.storage),
                        k_pe.cols, scale, probe};
  for (const SequenceSlice& s : sequences)
    if (!s.decode) expanded(problem, s);
  absorbed(problem, sequences);
}

}  // namespace vl2::cpu

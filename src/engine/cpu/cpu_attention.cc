// Attention of the vision encoder, and multi-head attention over cached keys and values.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/cpu/attend.h"
#include "engine/cpu/cache_pieces.h"
#include "engine/cpu/cpu_cache.h"
#include "engine/cpu/cpu_context.h"

namespace vl2::cpu {

// Rows far apart are asked for this long before they are copied.
constexpr int64_t kRowsAhead = 8;

void full_attention(const CpuContext& context, Tensor out, Tensor qkv, int64_t heads, int64_t tokens) {
  const int64_t width = out.cols, size = width / heads, items = out.rows / tokens,
                lanes = max_lanes(context, context.bf16_attention);
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(size)));
  Workspace::Scope scope(context.workspace);
  std::vector<HeadKeys> packed;
  for (int t = 0; t < context.pool.num_threads() && context.bf16_attention; ++t)
    packed.push_back(allocate_packed(context, tokens, size, size));
  const std::vector<float*> rows = thread_scratch(context, 2 * tokens * size + kKeyBlock * size);
  const std::vector<AttendScratch> scratch = attend_scratch(context, size, size, context.bf16_attention);
  context.pool.parallel_for(items * heads, [&](int64_t task, int thread) {
    const auto t = static_cast<size_t>(thread);
    const int64_t first = task / heads * tokens, column = task % heads * size;
    // A head's rows are far apart among the others'; side by side they stay in the caches for all its queries.
    float* k = rows[t];
    float* v = k + tokens * size;
    for (int64_t j = 0; j < tokens; ++j) {
      const float* ahead = qkv.row(first + std::min(j + kRowsAhead, tokens - 1)) + column;
      for (int64_t d = 0; d < size + kPanel; d += kPanel) {
        __builtin_prefetch(ahead + width + d);
        __builtin_prefetch(ahead + 2 * width + d);
      }
      std::copy_n(qkv.row(first + j) + width + column, size, k + j * size);
      std::copy_n(qkv.row(first + j) + 2 * width + column, size, v + j * size);
    }
    HeadKeys head{.keys = tokens, .size = size, .v_size = size};
    const float* runs[] = {k, v};
    if (context.bf16_attention) {
      head = packed[t];
      for (int64_t j = 0; j < tokens; j += kKeyBlock)
        pack_block(context, head, j / kKeyBlock, k + j * size, v + j * size, std::min(kKeyBlock, tokens - j),
                   v + tokens * size);
    } else {
      head.k = {&runs[0], tokens, tokens, 0, size};
      head.v = {&runs[1], tokens, tokens, 0, size};
    }
    for (int64_t r = 0; r < tokens; r += lanes)
      attend(context, head,
             {qkv.row(first + r) + column, qkv.row_stride, std::min(lanes, tokens - r), tokens, 0, scale,
              out.row(first + r) + column, out.row_stride},
             scratch[t]);
  });
}

namespace {

// Keys of one piece of work of an answer's row. Fixed, so that a result does not depend on the number of threads.
constexpr int64_t kKeysPerPiece = 256;

// Keys of all heads, then their values: a segment of the cache each, and a plane.
void append(const CpuContext& context, CpuCache& cache, std::span<const SequenceSlice> sequences, int64_t layer,
            Tensor k, Tensor v) {
  constexpr int64_t kAtOnce = 8;  // rows whose places are fetched before the first is written
  const int64_t size = k.cols;
  cache.lay_out(size, 2);
  std::vector<std::pair<const SequenceSlice*, int64_t>> rows;
  for (const SequenceSlice& s : sequences)
    for (int64_t i = 0; i < s.count; ++i) rows.emplace_back(&s, i);
  context.for_ranges(static_cast<int64_t>(rows.size()), 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t first = begin; first < end; first += kAtOnce) {
      const auto some =
          std::span(rows).subspan(static_cast<size_t>(first), static_cast<size_t>(std::min(kAtOnce, end - first)));
      for (const auto& [s, i] : some) cache.fetch(layer, s->blocks, s->past + i);
      for (const auto& [s, i] : some)
        for (int64_t g = 0; g < k.heads; ++g) {
          cache.write(layer, s->blocks, s->past + i, g, k.at(s->begin + i, g));
          cache.write(layer, s->blocks, s->past + i, k.heads + g, v.at(s->begin + i, g));
        }
    }
  });
}

struct Problem {
  const CpuContext& context;
  const CpuCache& cache;
  int64_t layer;
  Tensor out, q;
  int64_t groups;
  float scale;
  Tensor probe;

  int64_t heads_per_group() const { return q.heads / groups; }
  // A head's rows of the block that holds a token.
  template <typename T>
  const T* rows(const SequenceSlice& s, int64_t token, int64_t segment) const {
    return cache.rows<T>(layer, s.blocks[static_cast<size_t>(token / cache.block_tokens())], segment);
  }
};

// One key head's keys and values, packed for bf16 products.
HeadKeys pack_head(const Problem& p, const SequenceSlice& s, int64_t g, const HeadKeys& head, float* buffer) {
  const int64_t size = head.size;
  float* v = buffer + kKeyBlock * size;
  for (int64_t j = 0; j < head.keys; j += kKeyBlock) {
    const int64_t end = std::min(j + kKeyBlock, head.keys);
    p.cache.gather(p.layer, s.blocks, j, end, g * size, size, buffer, size);
    p.cache.gather(p.layer, s.blocks, j, end, (p.groups + g) * size, size, v, size);
    pack_block(p.context, head, j / kKeyBlock, buffer, v, end - j, v + kKeyBlock * size);
  }
  return head;
}

// A tile of a prompt's rows from row r of the slice on, for one head.
AttendTask prompt_task(const Problem& p, const SequenceSlice& s, int64_t h, int64_t r) {
  const int64_t row = s.begin + r;
  AttendTask task{p.q.at(row, h),
                  p.q.row_stride,
                  std::min(max_lanes(p.context, p.context.bf16_compute), s.count - r),
                  s.past + r + 1,
                  1,
                  p.scale,
                  p.out.row(row) + h * p.q.cols,
                  p.out.row_stride};
  if (p.probe.data != nullptr) {
    task.probe = p.probe.at(row, h);
    task.probe_stride = p.probe.row_stride;
    task.probe_columns = p.probe.cols;
  }
  return task;
}

// Rows of a prompt behind much that is cached, so few that one pass over the keys serves them: each head's are widened
// block by block on the way, and none is kept.
void few_prompt_rows(const Problem& p, const SequenceSlice& s) {
  const int64_t total = s.past + s.count, size = p.q.cols;
  Workspace::Scope scope(p.context.workspace);
  const std::vector<AttendScratch> scratch = attend_scratch(p.context, size, size, p.context.bf16_compute);
  const std::vector<float*> rows = thread_scratch(p.context, 2 * kKeyBlock * size);
  // Every block of a thread lies in the same place.
  const auto blocks = static_cast<size_t>((total + kKeyBlock - 1) / kKeyBlock);
  std::vector<std::vector<const float*>> k_runs, v_runs;
  for (const float* row : rows) {
    k_runs.emplace_back(blocks, row);
    v_runs.emplace_back(blocks, row + kKeyBlock * size);
  }
  p.context.pool.parallel_for(p.q.heads, [&](int64_t h, int thread) {
    const auto t = static_cast<size_t>(thread);
    const int64_t g = h / p.heads_per_group();
    const HeadKeys head{.keys = total,
                        .size = size,
                        .v_size = size,
                        .k = {k_runs[t].data(), kKeyBlock, total, 0, size},
                        .v = {v_runs[t].data(), kKeyBlock, total, 0, size},
                        .fetch = [&, t, g](int64_t first, int64_t n) {
                          float* k = rows[t];
                          p.cache.gather(p.layer, s.blocks, first, first + n, g * size, size, k, size);
                          p.cache.gather(p.layer, s.blocks, first, first + n, (p.groups + g) * size, size,
                                         k + kKeyBlock * size, size);
                        }};
    attend(p.context, head, prompt_task(p, s, h, 0), scratch[t]);
  });
}

void prompt_rows(const Problem& p, const SequenceSlice& s) {
  if (p.cache.stored() != CacheType::kF32 && !p.context.bf16_compute && s.past > 0 &&
      s.count <= max_lanes(p.context, p.context.bf16_compute) && p.heads_per_group() == 1)
    return few_prompt_rows(p, s);
  const int64_t total = s.past + s.count, size = p.q.cols, tokens = p.cache.block_tokens();
  Workspace::Scope scope(p.context.workspace);
  std::vector<HeadKeys> heads;
  std::vector<const float*> runs;
  if (p.context.bf16_compute) {
    for (int64_t g = 0; g < p.groups; ++g) heads.push_back(allocate_packed(p.context, total, size, size));
    const std::vector<float*> buffers = thread_scratch(p.context, 3 * kKeyBlock * size);
    p.context.pool.parallel_for(p.groups, [&](int64_t g, int thread) {
      pack_head(p, s, g, heads[static_cast<size_t>(g)], buffers[static_cast<size_t>(thread)]);
    });
  } else if (p.cache.stored() != CacheType::kF32) {
    // Widened once for all queries: [group][keys, then values].
    float* wide = p.context.workspace.array<float>(2 * p.groups * total * size).data();
    for (int64_t i = 0; i < 2 * p.groups; ++i) runs.push_back(wide + i * total * size);
    p.context.pool.parallel_for(2 * p.groups, [&](int64_t i, int) {
      const int64_t column = (i % 2 * p.groups + i / 2) * size;
      p.cache.gather(p.layer, s.blocks, 0, total, column, size, wide + i * total * size, size);
    });
    for (int64_t g = 0; g < p.groups; ++g)
      heads.push_back({.keys = total,
                       .size = size,
                       .v_size = size,
                       .k = {&runs[static_cast<size_t>(2 * g)], total, total, 0, size},
                       .v = {&runs[static_cast<size_t>(2 * g + 1)], total, total, 0, size}});
  } else {
    // Of the first head: the others' follow in the block. First the keys of every block, then the values.
    for (const int64_t segment : {int64_t{0}, p.groups})
      for (int64_t j = 0; j < total; j += tokens) runs.push_back(p.rows<float>(s, j, segment));
    const float* const* values = runs.data() + runs.size() / 2;
    for (int64_t g = 0; g < p.groups; ++g) {
      const int64_t offset = g * p.cache.segment_stride();
      heads.push_back({.keys = total,
                       .size = size,
                       .v_size = size,
                       .k = {runs.data(), tokens, total, offset, size},
                       .v = {values, tokens, total, offset, size}});
    }
  }
  const std::vector<AttendScratch> scratch = attend_scratch(p.context, size, size, p.context.bf16_compute);
  each_tile(p.context, p.q.heads, s.count, max_lanes(p.context, p.context.bf16_compute),
            [&](int64_t h, int64_t r, int thread) {
              attend(p.context, heads[static_cast<size_t>(h / p.heads_per_group())], prompt_task(p, s, h, r),
                     scratch[static_cast<size_t>(thread)]);
            });
}

// Partial softmax of a piece, per query of [group][row of the piece][head of the group].
struct PieceResults {
  float* top;
  float* sum;
  float* mix;     // [query][size]
  float* scores;  // [query][kKeysPerPiece], exponentials under this piece's top
};

// One piece against some key heads, where their keys lie. Block by block for all of them: memory gives much more to who
// reads it from front to back. q: [group][query][size]. room: [query][tokens of a block], for T int8_t. then,
// then_group: what the thread reads next, most likely; nullptr: nothing.
template <typename T>
void score_piece(const Problem& p, const CachePieces& cut, const CachePieces::Piece& piece, int64_t first_group,
                 int64_t end_group, float* q, const PieceResults& all, float* room, const CachePieces::Piece* then,
                 int64_t then_group) {
  const KernelTable& kernels = p.context.kernels;
  const SequenceSlice& holder = *cut.readers[piece.readers.front()].sequence;
  const int64_t size = p.q.cols, heads = p.heads_per_group(), queries = piece.rows * heads;
  const int64_t tokens = p.cache.block_tokens(), keys = piece.end - piece.begin;
  const auto results = [&](int64_t g) -> PieceResults {
    const int64_t at = g * queries;
    return {all.top + at, all.sum + at, all.mix + at * size, all.scores + at * kKeysPerPiece};
  };
  // fn(group, rows of its segment, first key, number of keys, where the rows go on); after: what follows the last
  // block.
  const auto each_block = [&](int64_t first_segment, const T* after, const auto& fn) {
    const auto block = [&](int64_t j) { return p.rows<T>(holder, j, first_segment + first_group); };
    const int64_t stride = p.cache.segment_stride();
    for (int64_t j = piece.begin; j < piece.end; j += tokens) {
      const T* x = block(j);
      const T* next = j + tokens < piece.end ? block(j + tokens) : after;
      Leap leap;
      if (next != nullptr)
        leap = {reinterpret_cast<uintptr_t>(x + (end_group - first_group) * stride), reinterpret_cast<uintptr_t>(next)};
      for (int64_t g = first_group; g < end_group; ++g, x += stride)
        fn(g, x, j - piece.begin, std::min(tokens, piece.end - j), leap);
    }
  };
  // fn(first column, columns, their scales of the block's rows), of rows in codes.
  const auto each_code_group = [&](const int8_t* x, const auto& fn) {
    const BF16* scale = p.cache.scales(x);
    for (int64_t c = 0; c < size; c += kCacheGroup, scale += tokens) fn(c, std::min(kCacheGroup, size - c), scale);
  };
  // fn(row of the piece, the sequence it belongs to, row of that sequence)
  const auto each_row = [&](const auto& fn) {
    int64_t row = 0;
    for (const size_t reader : piece.readers) {
      const SequenceSlice& s = *cut.readers[reader].sequence;
      for (int64_t i = 0; i < s.count; ++i) fn(row++, s, i);
    }
  };
  for (int64_t g = first_group; g < end_group; ++g)
    each_row([&](int64_t row, const SequenceSlice& s, int64_t i) {
      for (int64_t h = 0; h < heads; ++h)
        std::copy_n(p.q.at(s.begin + i, g * heads + h), size, q + (g * queries + row * heads + h) * size);
    });
  const T* values = p.rows<T>(holder, piece.begin, p.groups + first_group);
  each_block(0, values, [&](int64_t g, const T* x, int64_t j, int64_t n, const Leap& leap) {
    const float* of_group = q + g * queries * size;
    float* scores = results(g).scores + j;
    if constexpr (std::is_same_v<T, float>) {
      kernels.dot_rows_f32(of_group, size, queries, x, size, n, size, scores, kKeysPerPiece, leap);
    } else if constexpr (std::is_same_v<T, BF16>) {
      kernels.dot_rows_bf16(of_group, size, queries, x, size, n, size, scores, kKeysPerPiece, leap);
    } else {
      each_code_group(x, [&](int64_t c, int64_t width, const BF16* scale) {
        kernels.dot_rows_int8(of_group + c, size, queries, x + c, size, n, width, room, tokens, leap);
        for (int64_t i = 0; i < queries; ++i)
          for (int64_t t = 0; t < n; ++t)
            scores[i * kKeysPerPiece + t] =
                (c == 0 ? 0.0f : scores[i * kKeysPerPiece + t]) + room[i * tokens + t] * to_float(scale[t]);
      });
    }
  });
  for (int64_t g = first_group; g < end_group; ++g) {
    const PieceResults r = results(g);
    each_row([&](int64_t row, const SequenceSlice& s, int64_t i) {
      const int64_t visible = std::clamp<int64_t>(s.past + i + 1 - piece.begin, 0, keys);
      for (int64_t query = row * heads; query < (row + 1) * heads; ++query) {
        float* scores = r.scores + query * kKeysPerPiece;
        r.sum[query] = visible > 0 ? kernels.exp_row(scores, visible, p.scale, r.top + query) : 0.0f;
        std::fill(scores + visible, scores + keys, 0.0f);
      }
    });
    std::fill_n(r.mix, queries * size, 0.0f);
  }
  const T* then_keys = nullptr;
  if (then != nullptr) then_keys = p.rows<T>(*cut.readers[then->readers.front()].sequence, then->begin, then_group);
  each_block(p.groups, then_keys, [&](int64_t g, const T* x, int64_t j, int64_t n, const Leap& leap) {
    const PieceResults r = results(g);
    if constexpr (std::is_same_v<T, float>) {
      kernels.mix_rows_f32(r.scores + j, kKeysPerPiece, queries, x, size, n, size, r.mix, size, leap);
    } else if constexpr (std::is_same_v<T, BF16>) {
      kernels.mix_rows_bf16(r.scores + j, kKeysPerPiece, queries, x, size, n, size, r.mix, size, leap);
    } else {
      each_code_group(x, [&](int64_t c, int64_t width, const BF16* scale) {
        for (int64_t i = 0; i < queries; ++i)
          for (int64_t t = 0; t < n; ++t)
            room[i * tokens + t] = r.scores[i * kKeysPerPiece + j + t] * to_float(scale[t]);
        kernels.mix_rows_int8(room, tokens, queries, x + c, size, n, width, r.mix + c, size, leap);
      });
    }
  });
}

// Rows of answers read the cache where it lies, all rows of the sequences that share a piece together; pieces are
// merged in order.
void decode_rows(const Problem& p, std::span<const SequenceSlice> sequences) {
  const CpuContext& context = p.context;
  const int64_t size = p.q.cols, heads = p.heads_per_group();
  const CachePieces cut = cut_cache(sequences, kKeysPerPiece, p.cache.block_tokens());
  if (cut.readers.empty()) return;
  int64_t queries = 0;
  std::vector<int64_t> first_query;  // of each piece, counting all queries of those before
  for (const CachePieces::Piece& piece : cut.pieces) {
    first_query.push_back(queries);
    queries += piece.rows * p.q.heads;
  }
  Workspace::Scope scope(context.workspace);
  const auto top = context.workspace.array<float>(queries), sum = context.workspace.array<float>(queries);
  const auto mix = context.workspace.array<float>(queries * size);
  const auto scores = context.workspace.array<float>(queries * kKeysPerPiece);
  const auto q = context.workspace.array<float>(queries * size);
  const auto results = [&](size_t piece, int64_t g) -> PieceResults {
    const int64_t at = first_query[piece] + g * cut.pieces[piece].rows * heads;
    return {top.data() + at, sum.data() + at, mix.data() + at * size, scores.data() + at * kKeysPerPiece};
  };
  const CacheType stored = p.cache.stored();
  int64_t most_queries = 0;
  for (const CachePieces::Piece& piece : cut.pieces) most_queries = std::max(most_queries, piece.rows * heads);
  const std::vector<float*> room =
      thread_scratch(context, stored == CacheType::kInt8 ? most_queries * p.cache.block_tokens() : 0);
  // Heads are split only when there are too few pieces for the threads.
  const auto num_pieces = static_cast<int64_t>(cut.pieces.size());
  const int64_t parts = std::clamp<int64_t>(4 * context.pool.num_threads() / num_pieces, 1, p.groups);
  context.pool.parallel_for(num_pieces * parts, [&](int64_t task, int thread) {
    const auto i = static_cast<size_t>(task / parts);
    const int64_t part = task % parts, first = p.groups * part / parts, end = p.groups * (part + 1) / parts;
    float* own_q = q.data() + first_query[i] * size;
    const auto next = static_cast<size_t>((task + 1) / parts);
    const CachePieces::Piece* then = next < cut.pieces.size() ? &cut.pieces[next] : nullptr;
    const int64_t then_group = p.groups * ((task + 1) % parts) / parts;
    const auto score = [&]<typename T>(T) {
      score_piece<T>(p, cut, cut.pieces[i], first, end, own_q, results(i, 0), room[static_cast<size_t>(thread)], then,
                     then_group);
    };
    if (stored == CacheType::kInt8) {
      score(int8_t{});
    } else if (stored == CacheType::kBF16) {
      score(BF16{});
    } else {
      score(float{});
    }
  });

  const auto merge = [&](const CachePieces::Reader& reader, int64_t index, int64_t h) {
    const int64_t row = reader.sequence->begin + index, keys = reader.sequence->past + index + 1;
    // fn(piece, results of its queries of this head's group, the query among them)
    const auto each_piece = [&](const auto& fn) {
      for (const CachePieces::Part& part : reader.parts) {
        const CachePieces::Piece& piece = cut.pieces[part.piece];
        if (piece.begin < keys) fn(piece, results(part.piece, h / heads), (part.first_row + index) * heads + h % heads);
      }
    };
    float highest = -std::numeric_limits<float>::infinity(), whole = 0;
    each_piece([&](const auto&, const PieceResults& x, int64_t query) { highest = std::max(highest, x.top[query]); });
    float* out = p.out.row(row) + h * size;
    std::fill_n(out, size, 0.0f);
    each_piece([&](const auto&, const PieceResults& x, int64_t query) {
      const float weight = std::exp(x.top[query] - highest);
      whole += weight * x.sum[query];
      context.kernels.add_scaled_row(out, x.mix + query * size, weight, size);
    });
    context.kernels.scale_row(out, size, 1.0f / whole);
    if (p.probe.data == nullptr) return;
    float* probe = p.probe.at(row, h);
    std::fill_n(probe, p.probe.cols, 0.0f);
    each_piece([&](const auto& piece, const PieceResults& x, int64_t query) {
      const float weight = std::exp(x.top[query] - highest) / whole;
      const float* e = x.scores + query * kKeysPerPiece;
      std::transform(e, e + std::min(piece.end, keys) - piece.begin, probe + piece.begin,
                     [&](float v) { return v * weight; });
    });
  };
  std::vector<std::pair<size_t, int64_t>> rows;  // a reader, and the row of its slice
  for (size_t r = 0; r < cut.readers.size(); ++r)
    for (int64_t i = 0; i < cut.readers[r].sequence->count; ++i) rows.emplace_back(r, i);
  const auto count = static_cast<int64_t>(rows.size()) * p.q.heads;
  context.for_ranges(count, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const auto [reader, index] = rows[static_cast<size_t>(i / p.q.heads)];
      merge(cut.readers[reader], index, i % p.q.heads);
    }
  });
}

}  // namespace

void cached_attention(const CpuContext& context, Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv,
                      std::span<const SequenceSlice> sequences, float scale, Tensor probe) {
  auto& cache = static_cast<CpuCache&>(*kv.cache);
  append(context, cache, sequences, kv.layer, k, v);
  const Problem problem{context, cache, kv.layer, out, q, k.heads, scale, probe};
  for (const SequenceSlice& s : sequences)
    if (!s.decode) prompt_rows(problem, s);
  decode_rows(problem, sequences);
}

}  // namespace vl2::cpu

// Multi-head latent attention (spec: model 6.4, 8).
//
// Rows of a prompt: keys and values of every head are expanded from the latents once, and attention runs on them. Rows
// of an answer: W_UK is absorbed into the queries and W_UV into the output, so that the cache is read once, as it lies,
// for all heads together - one key head of size rank + R, whose first rank columns are also the values.
#include <algorithm>
#include <cmath>

#include "engine/cpu/attend.h"
#include "engine/cpu/cpu_cache.h"
#include "engine/cpu/cpu_context.h"

namespace vl2::cpu {
namespace {

// Heads whose expanded keys and values are in memory together.
constexpr int64_t kHeadsAtOnce = 8;
// Latents expanded by one task: packed, they fit the second-level cache.
constexpr int64_t kExpandRows = kKeyBlock;
// Keys of one piece of work of an absorbed row. Fixed, so that a result does not depend on the number of threads.
constexpr int64_t kKeysPerPiece = kKeyBlock;

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
  const GemmKernel& kernel = context.gemm(p.weights.uk.front()->format);
  Workspace::Scope scope(context.workspace);

  // Latents packed block by block, each by itself: blocks need not be whole groups of the kernel's rows.
  const int64_t blocks = (total + kExpandRows - 1) / kExpandRows;
  const int64_t block_bytes = round_up(kernel.packed_a_bytes(kExpandRows, rank), 64);
  std::byte* latents = context.workspace.bytes(static_cast<size_t>(blocks * block_bytes));
  Tensor k_pe = context.workspace.tensor(total, p.rope);
  const int64_t heads_at_once = std::min(kHeadsAtOnce, p.w.num_heads);
  {
    Workspace::Scope inner(context.workspace);
    const std::vector<float*> rows = thread_scratch(context, kExpandRows * rank);
    context.pool.parallel_for(blocks, [&](int64_t b, int thread) {
      const int64_t begin = b * kExpandRows, end = std::min(begin + kExpandRows, total);
      float* buffer = rows[static_cast<size_t>(thread)];
      p.cache.gather(p.layer, s.blocks, begin, end, 0, rank, buffer, rank);
      p.cache.gather(p.layer, s.blocks, begin, end, rank, p.rope, k_pe.row(begin), p.rope);
      kernel.pack_a(buffer, rank, nullptr, end - begin, rank, latents + b * block_bytes);
    });
  }

  std::vector<HeadKeys> heads;
  std::vector<const float*> runs;  // of a head: keys, then values
  std::vector<float*> floats;      // where they are written; float32 products read them there
  if (context.bf16_attention) {
    for (int64_t i = 0; i < heads_at_once; ++i) heads.push_back(allocate_packed(context, total, size, v));
    floats = thread_scratch(context, kExpandRows * (size + v) + v * kKeyBlock);
  } else {
    for (int64_t i = 0; i < heads_at_once; ++i)
      floats.push_back(context.workspace.array<float>(total * (size + v)).data());
    for (float* x : floats) runs.insert(runs.end(), {x, x + total * size});
    for (int64_t i = 0; i < heads_at_once; ++i)
      heads.push_back({.keys = total,
                       .size = size,
                       .v_size = v,
                       .k = {&runs[static_cast<size_t>(2 * i)], total, total, 0, size},
                       .v = {&runs[static_cast<size_t>(2 * i + 1)], total, total, 0, v}});
  }
  const std::vector<float*> sums = thread_scratch(context, gemm_scratch_floats(kExpandRows));
  const std::vector<AttendScratch> scratch = attend_scratch(context, size, v, context.bf16_attention);
  const int64_t lanes = max_lanes(context, context.bf16_attention);

  for (int64_t first = 0; first < p.w.num_heads; first += kHeadsAtOnce) {
    const int64_t count = std::min(kHeadsAtOnce, p.w.num_heads - first);
    context.pool.parallel_for(count * blocks, [&](int64_t task, int thread) {
      const int64_t i = task / blocks, begin = task % blocks * kExpandRows;
      const int64_t n = std::min(kExpandRows, total - begin);
      const std::byte* a = latents + task % blocks * block_bytes;
      const auto h = static_cast<size_t>(first + i), t = static_cast<size_t>(thread);
      const bool bf16 = context.bf16_attention;
      float* k_rows = bf16 ? floats[t] : floats[static_cast<size_t>(i)] + begin * size;
      float* v_rows = bf16 ? floats[t] + kExpandRows * size : floats[static_cast<size_t>(i)] + total * size + begin * v;
      multiply(kernel, a, n, p.weights.uk[h]->panel(0), nope, rank, k_rows, size, sums[t]);
      for (int64_t j = 0; j < n; ++j) std::copy_n(k_pe.row(begin + j), p.rope, k_rows + j * size + nope);
      multiply(kernel, a, n, p.weights.uv[h]->panel(0), v, rank, v_rows, v, sums[t]);
      for (int64_t j = 0; bf16 && j < n; j += kKeyBlock)
        pack_block(context, heads[static_cast<size_t>(i)], (begin + j) / kKeyBlock, k_rows + j * size, v_rows + j * v,
                   std::min(kKeyBlock, n - j), floats[t] + kExpandRows * (size + v));
    });
    each_tile(context, count, s.count, lanes, [&](int64_t i, int64_t r, int thread) {
      const int64_t h = first + i, row = s.begin + r;
      AttendTask task{p.q.at(row, h),         p.q.row_stride,  std::min(lanes, s.count - r), s.past + r + 1, 1, p.scale,
                      p.out.row(row) + h * v, p.out.row_stride};
      if (p.probe.data != nullptr) {
        task.probe = p.probe.at(row, h);
        task.probe_stride = p.probe.row_stride;
        task.probe_columns = p.probe.cols;
      }
      attend(context, heads[static_cast<size_t>(i)], task, scratch[static_cast<size_t>(thread)]);
    });
  }
}

// The rows of one sequence: their queries, numbered row by row and head by head, are cut into groups that share a pass
// over the keys, and the keys into pieces.
struct Answer {
  const SequenceSlice* sequence;
  int64_t first_row;    // among all answers' rows
  int64_t first_piece;  // among all pieces
  int64_t first_group;
  std::vector<const float*> runs;  // blocks of a float32 cache
  std::vector<const BF16*> rows;   // blocks of a bf16 cache, if there are kernels to use them where they lie

  int64_t keys() const { return sequence->past + sequence->count; }
  int64_t num_pieces() const { return (keys() + kKeysPerPiece - 1) / kKeysPerPiece; }
};

struct Piece {
  int64_t answer;
  int64_t begin, end;
  std::vector<Partial> partials;  // one a group; mix [lanes][rank]
  std::vector<float*> kept;       // scores of a group, when there is a probe
};

struct Group {
  int64_t answer;
  Lanes lanes;
  int64_t queries;  // lanes in use
};

// Exponent's base is two from here on.
void attend_piece(const Problem& p, const Answer& a, const std::vector<Group>& groups, const Piece& piece, float* wide,
                  const AttendScratch& scratch) {
  const int64_t width = p.w.rank + p.rope, offset = -piece.begin * width;
  const bool in_bf16 = !groups.empty() && groups.front().lanes.laid_out != nullptr;
  HeadKeys head{.keys = a.keys(), .size = width, .v_size = p.w.rank};
  const float* run[] = {wide};
  const BF16* bf16_run[] = {reinterpret_cast<const BF16*>(wide)};
  if (!a.rows.empty()) {
    head.rows = {a.rows.data(), p.cache.block_tokens(), a.keys(), 0, width};
  } else if (!a.runs.empty()) {
    head.k = {a.runs.data(), p.cache.block_tokens(), a.keys(), 0, width};
  } else if (in_bf16) {
    p.cache.gather_bf16(p.layer, a.sequence->blocks, piece.begin, piece.end, reinterpret_cast<BF16*>(wide));
    head.rows = {bf16_run, a.keys(), piece.end, offset, width};
  } else {
    p.cache.gather(p.layer, a.sequence->blocks, piece.begin, piece.end, 0, width, wide, width);
    head.k = {run, a.keys(), a.keys(), offset, width};
  }
  head.v = head.k;
  for (size_t g = 0; g < piece.partials.size(); ++g) {
    const Lanes& lanes = groups[static_cast<size_t>(a.first_group) + g].lanes;
    Partial partial = piece.partials[g];
    if (!in_bf16) partial.mix = scratch.partial.mix;
    attend_keys(p.context, head, lanes, piece.begin, piece.end, partial, scratch, piece.kept[g]);
    if (!in_bf16)
      p.context.kernels.transpose(partial.mix, lanes.count(), p.w.rank, lanes.count(), 1.0f, piece.partials[g].mix,
                                  p.w.rank);
  }
}

// A query of an answer: a head of one of its rows.
struct Query {
  int64_t row, head;
  size_t group;   // of the answer's
  int64_t lanes;  // of the group
  int64_t lane;
};

// out [rank] = the query's mix of the pieces it sees, in their order. shares: of each piece, 2^(its top - the highest)
// over the whole sum.
void merge(const Problem& p, const Answer& a, const Query& q, std::span<const Piece> pieces, float* shares,
           float* out) {
  const auto seen = static_cast<size_t>((a.sequence->past + q.row) / kKeysPerPiece + 1);
  const auto partial = [&](size_t i) -> const Partial& { return pieces[i].partials[q.group]; };
  float highest = partial(0).top[q.lane], whole = 0;
  for (size_t i = 1; i < seen; ++i) highest = std::max(highest, partial(i).top[q.lane]);
  for (size_t i = 0; i < seen; ++i) {
    shares[i] = std::exp2(partial(i).top[q.lane] - highest);
    whole += shares[i] * partial(i).sum[q.lane];
  }
  std::fill_n(out, p.w.rank, 0.0f);
  for (size_t i = 0; i < seen; ++i) {
    shares[i] /= whole;
    p.context.kernels.add_scaled_row(out, partial(i).mix + q.lane * p.w.rank, shares[i], p.w.rank);
  }
  if (p.probe.data == nullptr) return;
  float* probe = p.probe.at(a.sequence->begin + q.row, q.head);
  std::fill_n(probe, p.probe.cols, 0.0f);
  for (size_t i = 0; i < seen; ++i) {
    const int64_t begin = pieces[i].begin, end = std::min(pieces[i].end, a.sequence->past + q.row + 1);
    for (int64_t j = begin; j < end; ++j)
      probe[j] =
          std::exp2(pieces[i].kept[q.group][(j - begin) * q.lanes + q.lane] - partial(i).top[q.lane]) * shares[i];
  }
}

// Whether latents in bf16 are multiplied as they lie. Not in bf16 arithmetic, which rounds in the trainer's places: one
// more rounding, of absorbed queries, would lead away from it.
bool as_they_lie(const CpuContext& context) { return context.bf16_attention && !context.bf16_compute; }

// What a thread multiplies by after head h, most likely.
const std::byte* next_head(const std::vector<std::unique_ptr<PackedMatrix>>& matrices, int64_t h) {
  const auto next = static_cast<size_t>(h) + 1;
  return next < matrices.size() ? matrices[next]->panel(0) : nullptr;
}

void absorbed(const Problem& p, std::span<const SequenceSlice> sequences) {
  const CpuContext& context = p.context;
  const int64_t heads = p.w.num_heads, rank = p.w.rank, width = rank + p.rope,
                most = max_lanes(context, context.bf16_compute);
  const CacheType stored = p.cache.stored();
  std::vector<Answer> answers;
  std::vector<int32_t> batch_rows;
  std::vector<Piece> pieces;
  std::vector<Group> groups;
  Workspace::Scope scope(context.workspace);
  const auto floats = [&](int64_t n) { return context.workspace.array<float>(n).data(); };
  for (const SequenceSlice& s : sequences) {
    if (!s.decode) continue;
    Answer a{&s,
             static_cast<int64_t>(batch_rows.size()),
             static_cast<int64_t>(pieces.size()),
             static_cast<int64_t>(groups.size()),
             {},
             {}};
    const auto index = static_cast<int64_t>(answers.size());
    for (int64_t i = 0; i < s.count; ++i) batch_rows.push_back(static_cast<int32_t>(s.begin + i));
    for (int64_t l = 0; l < s.count * heads; l += most) {
      const int64_t queries = std::min(most, s.count * heads - l), vectors = num_panels(queries);
      groups.push_back({index, {floats(width * vectors * kPanel), vectors, s.past + 1, heads, l}, queries});
    }
    for (int64_t j = 0; j < a.keys(); j += kKeysPerPiece) {
      Piece piece{index, j, std::min(j + kKeysPerPiece, a.keys()), {}, {}};
      for (auto g = static_cast<size_t>(a.first_group); g < groups.size(); ++g) {
        const int64_t lanes = groups[g].lanes.count();
        piece.partials.push_back({floats(lanes), floats(lanes), floats(lanes * rank)});
        piece.kept.push_back(p.probe.data != nullptr ? floats(lanes * kKeysPerPiece) : nullptr);
      }
      pieces.push_back(std::move(piece));
    }
    for (int64_t j = 0; j < a.keys(); j += p.cache.block_tokens()) {
      const int32_t block = s.blocks[static_cast<size_t>(j / p.cache.block_tokens())];
      if (stored == CacheType::kF32) {
        a.runs.push_back(p.cache.rows<float>(p.layer, block, 0));
      } else if (stored == CacheType::kBF16 && as_they_lie(context)) {
        a.rows.push_back(p.cache.rows<BF16>(p.layer, block, 0));
      }
    }
    answers.push_back(std::move(a));
  }
  if (answers.empty()) return;
  const auto num_rows = static_cast<int64_t>(batch_rows.size());

  // Queries in latent space, a row per head: [row][head][rank | R].
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
             p.w.qk_nope, absorbed_q.data + h * width, heads * width, sums[t], next_head(p.weights.uk_transposed, h));
    for (int64_t r = 0; r < num_rows; ++r)
      std::copy_n(p.q.at(batch_rows[static_cast<size_t>(r)], h) + p.w.qk_nope, p.rope,
                  absorbed_q.row(r) + h * width + rank);
  });
  for (Group& g : groups)
    if (as_they_lie(context) && stored != CacheType::kF32)
      g.lanes.laid_out = context.workspace.bytes(static_cast<size_t>(bf16_query_bytes(g.lanes.vectors, width)));
  context.pool.parallel_for(static_cast<int64_t>(groups.size()), [&](int64_t i, int) {
    const Group& g = groups[static_cast<size_t>(i)];
    auto* q = const_cast<float*>(g.lanes.q);
    std::fill_n(q, width * g.lanes.count(), 0.0f);
    const float* rows = absorbed_q.row(answers[static_cast<size_t>(g.answer)].first_row) + g.lanes.first_lane * width;
    context.kernels.transpose(rows, width, g.queries, width, p.scale * kLog2E, q, g.lanes.count());
    if (g.lanes.laid_out != nullptr)
      context.kernels.attend_queries_bf16(q, g.lanes.vectors, width, const_cast<std::byte*>(g.lanes.laid_out));
  });

  {
    Workspace::Scope inner(context.workspace);
    const bool gathered = stored == CacheType::kInt8 || (stored == CacheType::kBF16 && !as_they_lie(context));
    const std::vector<float*> wide = thread_scratch(context, gathered ? kKeysPerPiece * width : 0);
    const std::vector<AttendScratch> scratch = attend_scratch(context, width, rank, context.bf16_compute);
    context.pool.parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i, int thread) {
      const Piece& piece = pieces[static_cast<size_t>(i)];
      attend_piece(p, answers[static_cast<size_t>(piece.answer)], groups, piece, wide[static_cast<size_t>(thread)],
                   scratch[static_cast<size_t>(thread)]);
    });
  }

  // A head's pieces are merged in order, and W_UV brings it back from latent space.
  const std::vector<float*> merged = thread_scratch(context, num_rows * rank);
  const std::vector<float*> shares = thread_scratch(context, static_cast<int64_t>(pieces.size()));
  const std::vector<float*> outputs = thread_scratch(context, num_rows * p.w.v);
  context.pool.parallel_for(heads, [&](int64_t h, int thread) {
    const auto t = static_cast<size_t>(thread);
    float* row = merged[t];
    for (const Answer& a : answers) {
      const auto of_answer =
          std::span(pieces).subspan(static_cast<size_t>(a.first_piece), static_cast<size_t>(a.num_pieces()));
      for (int64_t r = 0; r < a.sequence->count; ++r, row += rank) {
        const int64_t index = r * heads + h, g = index / most;
        const int64_t lanes = groups[static_cast<size_t>(a.first_group + g)].lanes.count();
        merge(p, a, {r, h, static_cast<size_t>(g), lanes, index % most}, of_answer, shares[t], row);
      }
    }
    kernel.pack_a(merged[t], rank, nullptr, num_rows, rank, packed_rows[t]);
    multiply(kernel, packed_rows[t], num_rows, p.weights.uv[static_cast<size_t>(h)]->panel(0), p.w.v, rank, outputs[t],
             p.w.v, sums[t], next_head(p.weights.uv, h));
    for (int64_t r = 0; r < num_rows; ++r)
      std::copy_n(outputs[t] + r * p.w.v, p.w.v, p.out.row(batch_rows[static_cast<size_t>(r)]) + h * p.w.v);
  });
}

}  // namespace

void latent_attention(const CpuContext& context, Tensor out, Tensor q, Tensor c_kv, Tensor k_pe, const LatentWeights& w,
                      KvLayer kv, std::span<const SequenceSlice> sequences, float scale, Tensor probe) {
  auto& cache = static_cast<CpuCache&>(*kv.cache);
  cache.lay_out(w.rank + k_pe.cols, 1);
  {
    Workspace::Scope scope(context.workspace);
    const std::vector<float*> rows = thread_scratch(context, w.rank + k_pe.cols);
    for (const SequenceSlice& s : sequences)
      context.for_ranges(s.count, 64, [&](int64_t begin, int64_t end, int thread) {
        float* row = rows[static_cast<size_t>(thread)];
        for (int64_t i = begin; i < end; ++i) {
          std::copy_n(c_kv.row(s.begin + i), w.rank, row);
          std::copy_n(k_pe.row(s.begin + i), k_pe.cols, row + w.rank);
          cache.write(kv.layer, s.blocks, s.past + i, 0, row);
        }
      });
  }
  const Problem problem{context,   cache, kv.layer, out, q, w, static_cast<const LatentStorage&>(*w.weight.storage),
                        k_pe.cols, scale, probe};
  for (const SequenceSlice& s : sequences)
    if (!s.decode) expanded(problem, s);
  absorbed(problem, sequences);
}

}  // namespace vl2::cpu

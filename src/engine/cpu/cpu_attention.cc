// Attention of the vision encoder, and multi-head attention over cached keys and values.
#include <algorithm>
#include <cmath>

#include "engine/cpu/attend.h"
#include "engine/cpu/cpu_cache.h"
#include "engine/cpu/cpu_context.h"

namespace vl2::cpu {

void full_attention(const CpuContext& context, Tensor out, Tensor qkv, int64_t heads, int64_t tokens) {
  const int64_t width = out.cols, size = width / heads, items = out.rows / tokens;
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(size)));
  const Format format = context.activation_format();
  Workspace::Scope scope(context.workspace);
  std::vector<HeadPanels> panels;
  for (int t = 0; t < context.pool.num_threads(); ++t) panels.push_back(allocate_panels(context, tokens, size, size));
  const std::vector<AttendScratch> scratch = attend_scratch(context, tokens, size, size);
  context.pool.parallel_for(items * heads, [&](int64_t task, int thread) {
    const int64_t first = task / heads * tokens, column = task % heads * size;
    const HeadPanels& head = panels[static_cast<size_t>(thread)];
    pack_panels(context.kernels, format, qkv.row(first) + width + column, qkv.row_stride, tokens, size, head.k);
    pack_panels_transposed(context.kernels, format, qkv.row(first) + 2 * width + column, qkv.row_stride, size, tokens,
                           head.v);
    for (int64_t r = 0; r < tokens; r += kQueryRows)
      attend(context, head,
             {qkv.row(first + r) + column, qkv.row_stride, std::min(kQueryRows, tokens - r), tokens, 0, scale,
              out.row(first + r) + column, out.row_stride},
             scratch[static_cast<size_t>(thread)]);
  });
}

namespace {

void append(CpuCache& cache, const SequenceSlice& s, int64_t layer, Tensor k, Tensor v) {
  const int64_t size = k.cols;
  for (int64_t i = 0; i < s.count; ++i) {
    for (int64_t g = 0; g < k.heads; ++g) {
      cache.write(layer, s.blocks, s.past + i, g * size, k.at(s.begin + i, g), size);
      cache.write(layer, s.blocks, s.past + i, (k.heads + g) * size, v.at(s.begin + i, g), size);
    }
  }
}

// Rows of a prompt pack the keys and values once for all of them; rows of an answer read the cache where it lies.
struct Problem {
  const CpuContext& context;
  const CpuCache& cache;
  int64_t layer;
  Tensor out, q;
  int64_t groups;
  float scale;
  Tensor probe;

  int64_t heads_per_group() const { return q.heads / groups; }
};

void prompt_rows(const Problem& p, const SequenceSlice& s) {
  const int64_t total = s.past + s.count, size = p.q.cols;
  const Format format = p.context.activation_format();
  Workspace::Scope scope(p.context.workspace);
  std::vector<HeadPanels> panels;
  for (int64_t g = 0; g < p.groups; ++g) panels.push_back(allocate_panels(p.context, total, size, size));
  const std::vector<float*> rows = thread_scratch(p.context, total * size);
  p.context.pool.parallel_for(p.groups, [&](int64_t g, int thread) {
    float* buffer = rows[static_cast<size_t>(thread)];
    const HeadPanels& head = panels[static_cast<size_t>(g)];
    p.cache.gather(p.layer, s.blocks, total, g * size, size, buffer);
    pack_panels(p.context.kernels, format, buffer, size, total, size, head.k);
    p.cache.gather(p.layer, s.blocks, total, (p.groups + g) * size, size, buffer);
    pack_panels_transposed(p.context.kernels, format, buffer, size, size, total, head.v);
  });
  const std::vector<AttendScratch> scratch = attend_scratch(p.context, total, size, size);
  const int64_t blocks = (s.count + kQueryRows - 1) / kQueryRows;
  p.context.pool.parallel_for(blocks * p.q.heads, [&](int64_t task, int thread) {
    // Late blocks see more keys: walking heads first spreads them over the threads.
    const int64_t h = task % p.q.heads, r = task / p.q.heads * kQueryRows, row = s.begin + r;
    AttendTask attend_task{p.q.at(row, h),
                           p.q.row_stride,
                           std::min(kQueryRows, s.count - r),
                           s.past + r + 1,
                           1,
                           p.scale,
                           p.out.row(row) + h * size,
                           p.out.row_stride};
    if (p.probe.data != nullptr) {
      attend_task.probe = p.probe.at(row, h);
      attend_task.probe_stride = p.probe.row_stride;
      attend_task.probe_columns = p.probe.cols;
    }
    attend(p.context, panels[static_cast<size_t>(h / p.heads_per_group())], attend_task,
           scratch[static_cast<size_t>(thread)]);
  });
}

// One row of queries against one key head, where its keys lie. scores: [heads_per_group][keys].
template <typename T>
void one_row(const Problem& p, const SequenceSlice& s, int64_t row, int64_t keys, int64_t g, float* scores) {
  const int64_t size = p.q.cols, heads = p.heads_per_group(), tokens = p.cache.block_tokens(), width = p.cache.width();
  const auto dot = [&](auto&& kernel, const T* x, int64_t j, int64_t n) {
    kernel(p.q.at(row, g * heads), p.q.head_stride, heads, x, width, n, size, scores + j, keys);
  };
  for (int64_t j = 0; j < keys; j += tokens) {
    const T* x = p.cache.block<T>(p.layer, s.blocks[static_cast<size_t>(j / tokens)]) + g * size;
    if constexpr (std::is_same_v<T, float>) {
      dot(p.context.kernels.dot_rows_f32, x, j, std::min(tokens, keys - j));
    } else {
      dot(p.context.kernels.dot_rows_bf16, x, j, std::min(tokens, keys - j));
    }
  }
  float* out = p.out.row(row) + g * heads * size;
  std::fill_n(out, heads * size, 0.0f);
  std::vector<float> inverse(static_cast<size_t>(heads));
  for (int64_t h = 0; h < heads; ++h) {
    float top = 0;
    inverse[static_cast<size_t>(h)] = 1.0f / p.context.kernels.exp_row(scores + h * keys, keys, p.scale, &top);
  }
  for (int64_t j = 0; j < keys; j += tokens) {
    const T* x = p.cache.block<T>(p.layer, s.blocks[static_cast<size_t>(j / tokens)]) + (p.groups + g) * size;
    const int64_t n = std::min(tokens, keys - j);
    if constexpr (std::is_same_v<T, float>) {
      p.context.kernels.mix_rows_f32(scores + j, keys, heads, x, width, n, size, out, size);
    } else {
      p.context.kernels.mix_rows_bf16(scores + j, keys, heads, x, width, n, size, out, size);
    }
  }
  for (int64_t h = 0; h < heads; ++h) {
    p.context.kernels.scale_row(out + h * size, size, inverse[static_cast<size_t>(h)]);
    if (p.probe.data == nullptr) continue;
    float* probe = p.probe.at(row, g * heads + h);
    std::fill_n(probe, p.probe.cols, 0.0f);
    std::transform(scores + h * keys, scores + (h + 1) * keys, probe,
                   [&](float x) { return x * inverse[static_cast<size_t>(h)]; });
  }
}

void decode_rows(const Problem& p, std::span<const SequenceSlice> sequences) {
  struct Row {
    const SequenceSlice* sequence;
    int64_t row;
    int64_t keys;
  };
  std::vector<Row> rows;
  int64_t longest = 0;
  for (const SequenceSlice& s : sequences) {
    if (!s.decode) continue;
    for (int64_t i = 0; i < s.count; ++i) rows.push_back({&s, s.begin + i, s.past + i + 1});
    longest = std::max(longest, s.past + s.count);
  }
  if (rows.empty()) return;
  Workspace::Scope scope(p.context.workspace);
  const std::vector<float*> scores = thread_scratch(p.context, p.heads_per_group() * longest);
  p.context.pool.parallel_for(static_cast<int64_t>(rows.size()) * p.groups, [&](int64_t task, int thread) {
    const Row& row = rows[static_cast<size_t>(task / p.groups)];
    if (p.cache.bf16()) {
      one_row<BF16>(p, *row.sequence, row.row, row.keys, task % p.groups, scores[static_cast<size_t>(thread)]);
    } else {
      one_row<float>(p, *row.sequence, row.row, row.keys, task % p.groups, scores[static_cast<size_t>(thread)]);
    }
  });
}

}  // namespace

void cached_attention(const CpuContext& context, Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv,
                      std::span<const SequenceSlice> sequences, float scale, Tensor probe) {
  auto& cache = static_cast<CpuCache&>(*kv.cache);
  for (const SequenceSlice& s : sequences) append(cache, s, kv.layer, k, v);
  const Problem problem{context, cache, kv.layer, out, q, k.heads, scale, probe};
  for (const SequenceSlice& s : sequences)
    if (!s.decode) prompt_rows(problem, s);
  decode_rows(problem, sequences);
}

}  // namespace vl2::cpu

// C = A B^T over panels of 16 columns, written once over Vec. Included inside an ISA namespace after its simd.h.
//
// Every element of C is one chain of fused multiply-adds over ascending k, whatever the block sizes and the number of
// rows: so a row gives the same bits alone, in a batch or in a chunk.

// Depth of a block: a panel's slice stays in the first-level cache while all rows pass over it.
inline constexpr int64_t kDepthBlock = 256;

// From this many rows on, a bf16 slice is widened once for all of them; below, each group widens as it goes.
inline constexpr int64_t kRowsToWiden = 3 * kRowGroup;

// How far ahead the weights of few rows are fetched, in bytes; those of a single one.
inline constexpr int64_t kStreamAhead = 2048;
inline constexpr int64_t kRowAhead = 3072;

struct PanelF32 {
  using Element = float;
  static constexpr int64_t kDepthStep = 1;
  static int64_t depth(int64_t k) { return k; }
  static int64_t panel_elements(int64_t k) { return k * kPanel; }
  static Vec first(const float* p) { return load(p); }
};

struct PanelBf16 {
  using Element = BF16;
  static constexpr int64_t kDepthStep = 2;
  static int64_t depth(int64_t k) { return round_up(k, 2); }
  static int64_t panel_elements(int64_t k) { return round_up(k, kTileDepth) * kPanel; }
  static Vec first(const BF16* p) { return load_firsts(p); }
  static Vec second(const BF16* p) { return load_seconds(p); }
};

// --- packing of A: groups of kRowGroup rows, each [depth][rows of the group]; the last group holds what is left ---

template <typename Panel>
int64_t packed_a_bytes(int64_t rows, int64_t k) {
  return rows * Panel::depth(k) * static_cast<int64_t>(sizeof(float));
}

template <typename Panel, bool kRound>
void pack_a(const float* a, int64_t stride, const int32_t* index, int64_t rows, int64_t k, void* packed) {
  float* out = static_cast<float*>(packed);
  const int64_t depth = Panel::depth(k);
  for (int64_t first = 0; first < rows; first += kRowGroup) {
    const int64_t group = rows - first < kRowGroup ? rows - first : kRowGroup;
    const float* row[kRowGroup];
    for (int64_t r = 0; r < group; ++r) row[r] = a + (index != nullptr ? index[first + r] : first + r) * stride;
    if (group < kRowsToTranspose) {
      for (int64_t r = 0; r < group; ++r) {
        for (int64_t d = 0; d < k; ++d) out[d * group + r] = kRound ? to_float(to_bf16(row[r][d])) : row[r][d];
        for (int64_t d = k; d < depth; ++d) out[d * group + r] = 0.0f;
      }
      out += group * depth;
      continue;
    }
    for (int64_t d = 0; d < depth; d += 16) {
      Vec block[16] = {};
      for (int64_t r = 0; r < group; ++r) {
        const Vec x = k - d >= 16 ? load(row[r] + d) : load_n(row[r] + d, k - d);
        block[r] = kRound ? round_to_bf16(x) : x;
      }
      store_interleaved(block, depth - d < 16 ? depth - d : 16, group, out + d * group, (depth - d) * group);
    }
    out += group * depth;
  }
}

// --- the register block: M rows x P panels ---

// sums [M][P][16] (+)= a b over `depth`. A function of its own, and sums in memory between calls, because the compiler
// keeps the block in registers only when nothing else competes for them.
template <typename Panel, int M, int P>
[[gnu::noinline]] void multiply(const float* a, const typename Panel::Element* b, int64_t panel_stride, int64_t depth,
                                bool first, float* sums) {
  Vec sum[M][P];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) sum[m][p] = first ? zero() : load(sums + (m * P + p) * kPanel);

  for (int64_t k = 0; k < depth; k += Panel::kDepthStep) {
    if constexpr (M == 1 || Panel::kDepthStep == 2) {  // else a slice in the cache
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p)
        __builtin_prefetch(b + p * panel_stride + k * kPanel + kStreamAhead / static_cast<int64_t>(sizeof(*b)));
    }
    Vec w[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) w[p] = Panel::first(b + p * panel_stride + k * kPanel);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const Vec x = set1(a[k * M + m]);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) sum[m][p] = fma(x, w[p], sum[m][p]);
    }
    if constexpr (Panel::kDepthStep == 2) {
      // The second halves are loaded only now: together with the first they would not leave enough registers for the
      // sums.
      __asm__ volatile("" ::: "memory");
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) w[p] = Panel::second(b + p * panel_stride + k * kPanel);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const Vec x = set1(a[(k + 1) * M + m]);
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) sum[m][p] = fma(x, w[p], sum[m][p]);
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) store(sums + (m * P + p) * kPanel, sum[m][p]);
}

// One group of M rows against P panels over one block of depth; sums between blocks wait in scratch. `b` is the slice.
template <typename Panel, int M, int P>
inline void group_block(const GemmTask& task, const float* a, const typename Panel::Element* b, int64_t panel_stride,
                        int64_t first_row, int64_t first_panel, int64_t depth, bool first, bool last, float* sums,
                        int64_t panel_step = 1) {
  multiply<Panel, M, P>(a, b, panel_stride, depth, first, sums);
  if (!last) return;
  for (int m = 0; m < M; ++m)
    for (int p = 0; p < P; ++p)
      finish(task, task.c + (first_row + m) * task.c_stride, (first_panel + p * panel_step) * kPanel,
             load(sums + (m * P + p) * kPanel));
}

template <typename Panel, int P>
inline void any_group(const GemmTask& task, int64_t rows, const float* a, const typename Panel::Element* b,
                      int64_t panel_stride, int64_t first_row, int64_t first_panel, int64_t depth, bool first,
                      bool last, float* sums, int64_t panel_step = 1) {
  with_size<kRowGroup>(rows, [&]<int M>(Size<M>) {
    if constexpr (M * P <= kRowGroup * kPanelsAtOnce || M == 1)
      group_block<Panel, M, P>(task, a, b, panel_stride, first_row, first_panel, depth, first, last, sums, panel_step);
  });
}

// All rows against one slice of P panels.
template <typename Panel, int P>
inline void all_groups(const GemmTask& task, const typename Panel::Element* b, int64_t panel_stride,
                       int64_t first_panel, int64_t begin, int64_t depth, int64_t whole_depth) {
  const float* a = static_cast<const float*>(task.a);
  float* sums = task.scratch;
  for (int64_t row = 0; row < task.rows; row += kRowGroup) {
    const int64_t group = task.rows - row < kRowGroup ? task.rows - row : kRowGroup;
    any_group<Panel, P>(task, group, a + begin * group, b, panel_stride, row, first_panel, depth, begin == 0,
                        begin + depth == whole_depth, sums);
    a += group * whole_depth;
    sums += group * P * kPanel;
  }
}

// P panels: many rows pass over one block of depth after the other.
template <typename Panel, int P>
inline void panel_step(const GemmTask& task, int64_t first_panel) {
  const int64_t whole = Panel::depth(task.k), panel_stride = Panel::panel_elements(task.panel_depth());
  const int64_t block = kDepthBlock;
  const auto* panels = static_cast<const typename Panel::Element*>(task.b) + first_panel * panel_stride;
  for (int64_t begin = 0; begin < whole; begin += block) {
    const int64_t depth = whole - begin < block ? whole - begin : block;
    const auto* slice = panels + begin * kPanel;
    if constexpr (Panel::kDepthStep == 2) {
      if (task.rows >= kRowsToWiden) {
        alignas(64) float wide[P * kDepthBlock * kPanel];
        for (int p = 0; p < P; ++p) {
          for (int64_t k = 0; k < depth; k += 2) {
            float* out = wide + (p * kDepthBlock + k) * kPanel;
            store(out, Panel::first(slice + p * panel_stride + k * kPanel));
            store(out + kPanel, Panel::second(slice + p * panel_stride + k * kPanel));
          }
        }
        all_groups<PanelF32, P>(task, wide, kDepthBlock * kPanel, first_panel, begin, depth, whole);
        continue;
      }
    }
    all_groups<Panel, P>(task, slice, panel_stride, first_panel, begin, depth, whole);
  }
}

// One group of rows: P streams of weights at once, each one unbroken run of memory: enough independent sums to hide the
// latency, enough loads in flight to fill the bus.
template <typename Panel, int P>
void stream_panels(const GemmTask& task) {
  const int64_t depth = Panel::depth(task.k), stride = Panel::panel_elements(task.panel_depth());
  const auto* a = static_cast<const float*>(task.a);
  const auto* b = static_cast<const typename Panel::Element*>(task.b);
  const int64_t step = task.panels / P;
  for (int64_t panel = 0; panel < step; ++panel)
    any_group<Panel, P>(task, task.rows, a, b + panel * stride, step * stride, 0, panel, depth, true, true,
                        task.scratch, step);
  for (int64_t panel = step * P; panel < task.panels; ++panel)
    any_group<Panel, 1>(task, task.rows, a, b + panel * stride, stride, 0, panel, depth, true, true, task.scratch);
}

// The same for a single row, which does nothing but wait for memory.
template <typename Panel>
[[gnu::noinline]] void stream_row(const GemmTask& task) {
  constexpr int P = 2;
  constexpr auto kElement = static_cast<int64_t>(sizeof(typename Panel::Element));
  constexpr int64_t kChunk = 1024 / (kPanel * kElement);  // k between looks at what to fetch
  const int64_t depth = Panel::depth(task.k), stride = Panel::panel_elements(task.panel_depth());
  const auto* a = static_cast<const float*>(task.a);
  const auto* b = static_cast<const typename Panel::Element*>(task.b);
  const auto* next = static_cast<const typename Panel::Element*>(task.next);
  const int64_t step = task.panels / P;
  const auto fetch = [&](int p) {
    const int64_t begin = p * step * stride;
    return Fetch<kRowAhead>(b + begin, step * stride * kElement, next != nullptr ? next + begin : nullptr);
  };
  Fetch<kRowAhead> fetches[P] = {fetch(0), fetch(1)};
  for (int64_t panel = 0; panel < step; ++panel) {
    const auto* w = b + panel * stride;
    Vec sum[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) sum[p] = zero();
    for (int64_t begin = 0; begin < depth; begin += kChunk) {
      const int64_t end = depth - begin < kChunk ? depth : begin + kChunk;
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) fetches[p].follow((end - begin) * kPanel * kElement);
      for (int64_t k = begin; k < end; k += Panel::kDepthStep) {
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) {
          fetches[p].lines(64);
          sum[p] = fma(set1(a[k]), Panel::first(w + p * step * stride + k * kPanel), sum[p]);
          if constexpr (Panel::kDepthStep == 2)
            sum[p] = fma(set1(a[k + 1]), Panel::second(w + p * step * stride + k * kPanel), sum[p]);
        }
      }
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) finish(task, task.c, (panel + p * step) * kPanel, sum[p]);
  }
  for (int64_t panel = step * P; panel < task.panels; ++panel)
    any_group<Panel, 1>(task, 1, a, b + panel * stride, stride, 0, panel, depth, true, true, task.scratch);
}

template <typename Panel>
void gemm(const GemmTask& task) {
  if (task.rows <= kRowGroup) {
    if (task.rows == 1) return stream_row<Panel>(task);
    // As many panels at once as there are registers for the sums.
    const int64_t room = kRowGroup * kPanelsAtOnce / task.rows;
    if (room >= 4 && task.panels >= 4) return stream_panels<Panel, 4>(task);
    return room >= 2 ? stream_panels<Panel, 2>(task) : stream_panels<Panel, 1>(task);
  }
  int64_t panel = 0;
  for (; panel + kPanelsAtOnce <= task.panels; panel += kPanelsAtOnce) panel_step<Panel, kPanelsAtOnce>(task, panel);
  for (; panel < task.panels; ++panel) panel_step<Panel, 1>(task, panel);
}

// A group of rows against stored codes that stream from memory: one unbroken run, all sums in registers. Included
// inside an ISA namespace after quant-inl.h.

// Of more rows than these, whose bytes share the first-level cache with the codes, less is fetched ahead.
inline constexpr int kFewStreamed = 8;
inline constexpr int64_t kQuantAheadOfMany = 4096;

// sums[m] += four bytes of row m from k on, times codes. Loads are what many rows wait for, so of every eight rows
// four take a shorter way where the instruction set has one: dot_four.
template <typename Kind, typename Layout, int M>
inline void add_products(Sums* sums, const Codes& codes, const int8_t* a, int64_t k) {
  constexpr bool kShort = M >= 8 && Layout::kRowsAdjoin && requires { dot_four(Kind{}, sums, codes, a); };
  const auto dot = [&](int m) { sums[m] = Kind::dot(sums[m], codes, a + Layout::template at<M>(k, m)); };
  if constexpr (kShort) {
#pragma GCC unroll 2
    for (int m = 0; m + 8 <= M; m += 8) {
#pragma GCC unroll 4
      for (int i = m; i < m + 4; ++i) dot(i);
      dot_four(Kind{}, sums + m + 4, codes, a + Layout::template at<M>(k, m + 4));
    }
#pragma GCC unroll 8
    for (int m = M / 8 * 8; m < M; ++m) dot(m);
  } else {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) dot(m);
  }
}

// M rows; sums of a group in two chains where there is room, because one would wait for itself.
template <typename Kind, typename Layout, int M>
[[gnu::noinline]] void stream_codes(const GemmTask& task) {
  constexpr int kChains = kStreamSums >= 2 * M ? 2 : 1;
  constexpr int64_t kBytes = 8 / Kind::kDepth * 64;  // of 8 k
  const int64_t depth = round_up(task.k, kQuantDepth), groups = quant_groups(task.k);
  const int64_t rows = Layout::template rows<M>(), scale_bytes = quant_scale_bytes(task.k);
  const auto* a = static_cast<const int8_t*>(task.a);
  const auto* a_scales = reinterpret_cast<const float*>(a + depth * rows);
  const auto* a_sums = reinterpret_cast<const int32_t*>(a_scales + groups * rows);
  const auto* codes = static_cast<const uint8_t*>(task.b);
  Fetch<(M <= kFewStreamed || kQuantAhead == 0 ? kQuantAhead : kQuantAheadOfMany)> fetch(
      codes, task.panels * vl2::panel_bytes(Kind::kFormat, task.k), task.next);
  for (int64_t panel = 0; panel < task.panels; ++panel) {
    const auto* scales = reinterpret_cast<const BF16*>(codes);
    codes += scale_bytes;
    fetch.lines(scale_bytes);
    Vec total[M];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) total[m] = zero();
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = g * kQuantGroup, end = begin + kQuantGroup < depth ? begin + kQuantGroup : depth;
      fetch.follow((end - begin) / 8 * kBytes + (g == 0 ? scale_bytes : 0));
      Sums even[M], odd[M];
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        even[m] = set_sums(-Kind::kOffset * a_sums[g * rows + m]);
        if constexpr (kChains > 1) odd[m] = set_sums(0);
      }
      if constexpr (Kind::kWords) {
        stream_words<Kind, Layout, M, (kChains > 1)>(even, fetch, codes, a, begin, end);
        codes += (end - begin) / 8 * kBytes;
      } else {
        for (int64_t k = begin; k < end; k += 8, codes += kBytes) {
          fetch.lines(kBytes);
          const Codes first = Kind::first(codes), second = Kind::second(codes);
          add_products<Kind, Layout, M>(even, first, a, k);
          add_products<Kind, Layout, M>(kChains > 1 ? odd : even, second, a, k + 4);
        }
      }
      const Vec scale = load_bf16(scales + g * kPanelRows);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const Sums sum = kChains > 1 ? add(even[m], odd[m]) : even[m];
        total[m] = fma(to_floats(sum), mul(scale, set1(a_scales[g * rows + m])), total[m]);
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) finish(task, task.c + m * task.c_stride, panel * kPanel, total[m]);
  }
}

// Groups of rows up to which reading a panel once for each costs less than the blocks' sums in memory.
inline constexpr int64_t kStreamGroups = 4;

// A few groups of rows: each panel is streamed for the first and still in the caches for the others.
template <typename Kind, typename Layout>
void stream_groups(const GemmTask& task) {
  const int64_t panel_bytes = vl2::panel_bytes(Kind::kFormat, task.k);
  for (int64_t panel = 0; panel < task.panels; ++panel) {
    GemmTask one = task;
    one.panels = 1;
    one.b = static_cast<const std::byte*>(task.b) + panel * panel_bytes;
    one.next = panel + 1 < task.panels ? static_cast<const std::byte*>(one.b) + panel_bytes : task.next;
    one.columns = task.columns - panel * kPanel;
    if (task.bias != nullptr) one.bias = task.bias + panel * kPanel;
    const auto* a = static_cast<const std::byte*>(task.a);
    for (int64_t row = 0; row < task.rows; row += kQuantRows) {
      one.rows = task.rows - row < kQuantRows ? task.rows - row : kQuantRows;
      one.a = a;
      one.c = task.c + row * task.c_stride + panel * kPanel;
      with_size<kQuantRows>(one.rows, [&]<int M>(Size<M>) { stream_codes<Kind, Layout, M>(one); });
      a += quant_packed_bytes(one.rows, task.k);
      one.next = nullptr;
    }
  }
}

template <typename Kind, typename Layout = Interleaved>
void quant_gemm(const GemmTask& task) {
  if (task.rows > kStreamGroups * kQuantRows) return quant_blocks<Kind, Layout>(task);
  if (task.rows > kQuantRows) return stream_groups<Kind, Layout>(task);
  with_size<kQuantRows>(task.rows, [&]<int M>(Size<M>) { stream_codes<Kind, Layout, M>(task); });
}

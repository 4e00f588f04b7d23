// Few rows against stored codes that stream from memory: one unbroken run, all sums in registers. Included inside an
// ISA namespace after quant-inl.h.

// Up to this many rows; with more, sums of two panels at once save loads of activations.
inline constexpr int64_t kStreamRows = 4;

// What is fetched while the loads are still kQuantAhead bytes behind: these panels, then the start of what comes next,
// so that no run begins with a wait.
struct Fetch {
  const uint8_t* at;
  const uint8_t* end;
  const uint8_t* next;

  void line() {
    if constexpr (kQuantAhead > 0) __builtin_prefetch(at);
    at += 64;
  }
  void lines(int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) line();
  }
  void follow() {
    if (at < end || next == nullptr) return;
    at = next + (at - end);
    next = nullptr;
  }
};

// M rows: sums of a group in kChains chains a row, because one would wait for itself.
template <typename Kind, typename Layout, int M>
[[gnu::noinline]] void stream_codes(const GemmTask& task) {
  constexpr int kChains = kStreamSums >= 4 * M ? 4 : kStreamSums >= 2 * M ? 2 : 1;
  constexpr int kParts = kChains < 2 ? 2 : kChains;  // of 4 k each, a turn
  const int64_t depth = round_up(task.k, kQuantDepth), groups = quant_groups(task.k);
  const int64_t rows = Layout::template rows<M>(), stride = vl2::panel_bytes(Kind::kFormat, task.k);
  const auto* a = static_cast<const int8_t*>(task.a);
  const auto* a_scales = reinterpret_cast<const float*>(a + depth * rows);
  const auto* a_sums = reinterpret_cast<const int32_t*>(a_scales + groups * rows);
  const auto* from = static_cast<const uint8_t*>(task.b);
  Fetch fetch{from, from + task.panels * stride, static_cast<const uint8_t*>(task.next)};
  fetch.lines(kQuantAhead);
  for (int64_t panel = 0; panel < task.panels; ++panel) {
    const auto* scales = reinterpret_cast<const BF16*>(from);
    from += quant_scale_bytes(task.k);
    fetch.lines(quant_scale_bytes(task.k));
    Vec total[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) total[m] = zero();
    for (int64_t g = 0; g < groups; ++g) {
      fetch.follow();
      const int64_t begin = g * kQuantGroup, end = begin + kQuantGroup < depth ? begin + kQuantGroup : depth;
      Sums sum[M][kChains];
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int c = 0; c < kChains; ++c) sum[m][c] = set_sums(c == 0 ? -Kind::kOffset * a_sums[g * rows + m] : 0);
      for (int64_t k = begin; k < end; k += 4 * kParts) {
        if constexpr (Kind::kFormat == PanelFormat::kQ8) {
#pragma GCC unroll 4
          for (int i = 0; i < kParts; ++i, from += 64) {
            fetch.line();
            const Codes w = load_codes(from);
#pragma GCC unroll 4
            for (int m = 0; m < M; ++m)
              sum[m][i % kChains] = dot_bytes(sum[m][i % kChains], w, a + Layout::template at<M>(k + 4 * i, m));
          }
        } else {
#pragma GCC unroll 4
          for (int i = 0; i < kParts; i += 2, from += 64) {
            fetch.line();
            const Codes both = load_codes(from), low = low_nibbles(both), high = high_nibbles(both);
#pragma GCC unroll 4
            for (int m = 0; m < M; ++m) {
              Sums& even = sum[m][i % kChains];
              even = dot_nibbles(even, low, a + Layout::template at<M>(k + 4 * i, m));
              Sums& odd = sum[m][(i + 1) % kChains];
              odd = dot_nibbles(odd, high, a + Layout::template at<M>(k + 4 * i + 4, m));
            }
          }
        }
      }
      const Vec scale = load_bf16(scales + g * kPanelRows);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
        for (int c = 1; c < kChains; ++c) sum[m][0] = add(sum[m][0], sum[m][c]);
        total[m] = fma(to_floats(sum[m][0]), mul(scale, set1(a_scales[g * rows + m])), total[m]);
      }
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) finish(task, task.c + m * task.c_stride, panel * kPanel, total[m]);
  }
}

template <typename Kind, typename Layout = Interleaved>
void quant_gemm(const GemmTask& task) {
  switch (task.rows) {
    case 1:
      return stream_codes<Kind, Layout, 1>(task);
    case 2:
      return stream_codes<Kind, Layout, 2>(task);
    case 3:
      return stream_codes<Kind, Layout, 3>(task);
    case kStreamRows:
      return stream_codes<Kind, Layout, kStreamRows>(task);
    default:
      return quant_blocks<Kind, Layout>(task);
  }
}

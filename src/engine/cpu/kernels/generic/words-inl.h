// The register block where the products of bytes are added up in words of 16 bits, two a column: that takes two
// instructions for 32 products, sums of 32 bits take three. Included inside an ISA namespace after quant-inl.h and
// dot_words.h.
//
// Words hold the sums of eight steps of nibbles (2 x 15 x 127 each), then are added to the whole sums, which lie in
// memory. A q8 code is two nibbles: the lower of eight steps first, then the upper, which count sixteenfold.

enum class Half { kBoth, kLow, kHigh };  // of the stored bytes

// whole [M][P] += products of `steps` x 64 stored bytes.
template <typename Layout, Half kHalf, int M, int P>
[[gnu::noinline]] void add_words_of(const uint8_t* codes, int64_t panel_stride, const int8_t* a, int64_t steps,
                                    Sums* whole) {
  Sums sum[M][P];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) sum[m][p] = set_sums(0);
#pragma GCC unroll 1
  for (int64_t step = 0; step < steps; ++step) {
    Codes w[P];
    if constexpr (kHalf != Half::kHigh) {
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) w[p] = low_nibbles(load_codes(codes + p * panel_stride));
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) sum[m][p] = add_words(sum[m][p], w[p], a + Layout::template at<M>(0, m));
    }
    if constexpr (kHalf == Half::kBoth) a += Layout::template at<M>(4, 0) - Layout::template at<M>(0, 0);
    if constexpr (kHalf != Half::kLow) {
      // Loaded again: kept, they would not leave enough registers for the sums.
      __asm__ volatile("" ::: "memory");
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) w[p] = high_nibbles(load_codes(codes + p * panel_stride));
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) sum[m][p] = add_words(sum[m][p], w[p], a + Layout::template at<M>(0, m));
    }
    a += Layout::template at<M>(4, 0) - Layout::template at<M>(0, 0);
    codes += 64;
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      Sums* to = whole + m * P + p;
      *to = add(*to, whole_sums(sum[m][p], kHalf == Half::kHigh ? 16 : 1));
    }
}

// What multiply_group does.
template <typename Kind, typename Layout, int M, int P>
void multiply_words(const uint8_t* codes, int64_t panel_stride, const int8_t* a, int64_t depth,
                    const GroupScales& group, float* sums) {
  Sums whole[M * P];
  for (int m = 0; m < M; ++m)
    for (int p = 0; p < P; ++p) whole[m * P + p] = set_sums(-Kind::kOffset * group.a_sums[m]);
  for (int64_t k = 0; k < depth; k += kWordDepth) {
    const uint8_t* at = codes + k / Kind::kDepth * 64;
    const int8_t* of = a + Layout::template at<M>(k, 0);
    if constexpr (Kind::kFormat == PanelFormat::kQ4) {
      add_words_of<Layout, Half::kBoth, M, P>(at, panel_stride, of, kWordDepth / 8, whole);
    } else {
      add_words_of<Layout, Half::kLow, M, P>(at, panel_stride, of, kWordDepth / 4, whole);
      add_words_of<Layout, Half::kHigh, M, P>(at, panel_stride, of, kWordDepth / 4, whole);
    }
  }
  for (int p = 0; p < P; ++p) {
    const Vec scale = load_bf16(reinterpret_cast<const BF16*>(group.scales + p * panel_stride));
    for (int m = 0; m < M; ++m) {
      float* to = sums + (m * P + p) * kPanel;
      store(to, fma(to_floats(whole[m * P + p]), mul(scale, set1(group.a_scales[m])), load(to)));
    }
  }
}

// --- few rows: sums[m] += products of k from begin up to end; kTwo: two sums a row, where there is room ---

template <typename Kind, typename Layout, int M, bool kTwo, typename Fetched>
inline void stream_words(Sums* sums, Fetched& fetch, const uint8_t* codes, const int8_t* a, int64_t begin,
                         int64_t end) {
  constexpr bool kNibbles = Kind::kFormat == PanelFormat::kQ4, kApart = kTwo || !kNibbles;
  // Of nibbles each of two sums gets every second step.
  constexpr int64_t kHeld = kNibbles && kApart ? 2 * kWordDepth : kWordDepth;
  for (int64_t k = begin; k < end;) {
    Sums low[M], high[M];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) low[m] = high[m] = set_sums(0);
    for (const int64_t until = k + kHeld; k < until; k += Kind::kDepth, codes += 64) {
      fetch.lines(64);
      const Codes both = load_codes(codes), lower = low_nibbles(both), upper = high_nibbles(both);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) low[m] = add_words(low[m], lower, a + Layout::template at<M>(k, m));
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        Sums& sum = kApart ? high[m] : low[m];
        sum = add_words(sum, upper, a + Layout::template at<M>(k + (kNibbles ? 4 : 0), m));
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      sums[m] = add(sums[m], whole_sums(low[m], 1));
      if constexpr (kApart) sums[m] = add(sums[m], whole_sums(high[m], kNibbles ? 1 : 16));
    }
  }
}

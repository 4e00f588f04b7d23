// Activations as bf16 panels and groups. Included inside an ISA namespace after rows-inl.h.
//
// Two neighbours along k move as one 32-bit word; a panel is [words][16 columns].

inline constexpr int64_t kWordsAtOnce = 64;

// One panel from `columns` rows x[c] of k floats each.
inline void panel_from_rows(const float* x, int64_t stride, int64_t columns, int64_t k, BF16* out) {
  const int64_t all = round_up(k, kTileDepth) / 2;
  for (int64_t begin = 0; begin < all; begin += kWordsAtOnce) {
    const int64_t count = all - begin < kWordsAtOnce ? all - begin : kWordsAtOnce;
    const int64_t values = k - 2 * begin < 2 * count ? k - 2 * begin : 2 * count;
    for (int64_t c = 0; c < kPanel; ++c) {
      alignas(64) BF16 row[2 * kWordsAtOnce] = {};
      if (c < columns && values > 0) to_bf16_row(row, x + c * stride + 2 * begin, values);
      for (int64_t w = 0; w < count; ++w)
        std::memcpy(out + ((begin + w) * kPanel + c) * 2, row + 2 * w, 2 * sizeof(BF16));
    }
  }
}

// One panel from columns that lie side by side: x[d * stride + c].
inline void panel_from_columns(const float* x, int64_t stride, int64_t columns, int64_t k, BF16* out) {
  for (int64_t d = 0; d < round_up(k, kTileDepth); d += 2) {
    const Vec first = d < k ? load_some(x + d * stride, columns) : zero();
    const Vec second = d + 1 < k ? load_some(x + (d + 1) * stride, columns) : zero();
    store_bf16_pairs(out + d * kPanel, first, second);
  }
}

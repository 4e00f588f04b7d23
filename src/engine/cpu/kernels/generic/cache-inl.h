// A few queries against rows of a cache, which are used where they lie. Included inside an ISA namespace after simd.h
// and codes.h.

inline Vec load_row(const float* p) { return load(p); }
inline Vec load_row(const BF16* p) { return load_bf16(p); }
inline Vec load_row(const int8_t* p) { return load_signed(p); }
inline Vec load_row_n(const float* p, int64_t n) { return load_n(p, n); }
inline Vec load_row_n(const BF16* p, int64_t n) { return load_bf16_n(p, n); }
inline Vec load_row_n(const int8_t* p, int64_t n) {
  int8_t padded[16] = {};
  for (int64_t i = 0; i < n; ++i) padded[i] = p[i];
  return load_signed(padded);
}

// Rows lie one behind the other for many kilobytes, but are not read in that order: so they are fetched in it.
inline constexpr int64_t kRowBytesAhead = 6144;

// One line's fetch goes with the loads of one line: a whole row's together would wait for each other.
template <typename T>
inline constexpr int64_t kLineValues = 64 / static_cast<int64_t>(sizeof(T));
inline void fetch_line(const std::byte* line) { __builtin_prefetch(line); }
// Of a row of `bytes`: where a page begins in it, one further on.
inline void fetch_page_ahead(const void* row, int64_t bytes, const Leap& leap) {
  const auto into = static_cast<int64_t>(reinterpret_cast<uintptr_t>(row) % kPageBytes);
  if (into == 0 || into + bytes > kPageBytes) fetch_page(leap.ahead(row, kPagesAhead));
}

// A block of Q queries x J rows; each sum is one chain per lane over ascending columns. Fetch: the first to see the
// rows.
template <int Q, int J, bool Fetch, typename T>
inline void dot_block(const float* q, int64_t q_stride, const T* x, int64_t x_stride, int64_t width, float* out,
                      int64_t out_stride, const Leap& leap) {
  Vec sum[Q][J];
#pragma GCC unroll 16
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j) sum[i][j] = zero();
  const auto step = [&](int64_t d) {
    Vec row[J];
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j) row[j] = load_row(x + j * x_stride + d);
#pragma GCC unroll 16
    for (int i = 0; i < Q; ++i) {
      const Vec query = load(q + i * q_stride + d);
#pragma GCC unroll 16
      for (int j = 0; j < J; ++j) sum[i][j] = fma(query, row[j], sum[i][j]);
    }
  };
  int64_t d = 0;
  const std::byte* ahead[J];
  if constexpr (Fetch) {
    for (int j = 0; j < J; ++j) {
      fetch_page_ahead(x + j * x_stride, width * static_cast<int64_t>(sizeof(T)), leap);
      ahead[j] = leap.ahead(x + j * x_stride, kRowBytesAhead);
    }
  }
  for (; d + kLineValues<T> <= width; d += kLineValues<T>) {
    if constexpr (Fetch) {
#pragma GCC unroll 16
      for (int j = 0; j < J; ++j) fetch_line(ahead[j] + d * static_cast<int64_t>(sizeof(T)));
    }
#pragma GCC unroll 4
    for (int64_t i = 0; i < kLineValues<T>; i += 16) step(d + i);
  }
  for (; d + 16 <= width; d += 16) step(d);
  if (d < width) {
    for (int i = 0; i < Q; ++i)
      for (int j = 0; j < J; ++j)
        sum[i][j] =
            fma(load_n(q + i * q_stride + d, width - d), load_row_n(x + j * x_stride + d, width - d), sum[i][j]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < Q; ++i) {
    if constexpr (J == 4) {
      reduce_add4(sum[i], out + i * out_stride);
    } else {
#pragma GCC unroll 16
      for (int j = 0; j < J; ++j) out[i * out_stride + j] = reduce_add1(sum[i][j]);
    }
  }
}

template <int J, typename T>
inline void dot_some(const float* q, int64_t q_stride, int64_t rows, const T* x, int64_t x_stride, int64_t width,
                     float* out, int64_t out_stride, const Leap& leap) {
  if (rows == 1) return dot_block<1, J, true>(q, q_stride, x, x_stride, width, out, out_stride, leap);
  int64_t i = 0;
  if (rows >= kCacheBlock) {
    dot_block<kCacheBlock, J, true>(q, q_stride, x, x_stride, width, out, out_stride, leap);
    for (i = kCacheBlock; i + kCacheBlock <= rows; i += kCacheBlock)
      dot_block<kCacheBlock, J, false>(q + i * q_stride, q_stride, x, x_stride, width, out + i * out_stride, out_stride,
                                       leap);
  }
  for (; i < rows; ++i)
    dot_block<1, J, false>(q + i * q_stride, q_stride, x, x_stride, width, out + i * out_stride, out_stride, leap);
}

template <typename T>
void dot_rows(const float* q, int64_t q_stride, int64_t rows, const T* x, int64_t x_stride, int64_t n, int64_t width,
              float* out, int64_t out_stride, const Leap& leap) {
  int64_t j = 0;
  for (; j + kCacheBlock <= n; j += kCacheBlock)
    dot_some<kCacheBlock>(q, q_stride, rows, x + j * x_stride, x_stride, width, out + j, out_stride, leap);
  for (; j < n; ++j) dot_some<1>(q, q_stride, rows, x + j * x_stride, x_stride, width, out + j, out_stride, leap);
}

// Q outputs, C vectors of columns; p is read column by column.
template <int Q, int C, typename T>
inline void mix_block(const float* p, int64_t p_stride, const T* x, int64_t x_stride, int64_t n, float* out,
                      int64_t out_stride, const Leap& leap) {
  Vec sum[Q][C];
#pragma GCC unroll 16
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) sum[i][c] = load(out + i * out_stride + c * 16);
  for (int64_t j = 0; j < n; ++j) {
    Vec row[C];
    fetch_page_ahead(x + j * x_stride, C * 16 * static_cast<int64_t>(sizeof(T)), leap);
    const std::byte* ahead = leap.ahead(x + j * x_stride, kRowBytesAhead);
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) {
      if (c * 16 % kLineValues<T> == 0) fetch_line(ahead + c * 16 * static_cast<int64_t>(sizeof(T)));
      row[c] = load_row(x + j * x_stride + c * 16);
    }
#pragma GCC unroll 16
    for (int i = 0; i < Q; ++i) {
      const Vec weight = set1(p[i * p_stride + j]);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) sum[i][c] = fma(weight, row[c], sum[i][c]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) store(out + i * out_stride + c * 16, sum[i][c]);
}

template <int Q, typename T>
inline void mix_some(const float* p, int64_t p_stride, const T* x, int64_t x_stride, int64_t n, int64_t width,
                     float* out, int64_t out_stride, const Leap& leap) {
  constexpr int C = Q == 1 ? 2 * kCacheBlock : kCacheBlock;
  int64_t d = 0;
  for (; d + C * 16 <= width; d += C * 16) mix_block<Q, C>(p, p_stride, x + d, x_stride, n, out + d, out_stride, leap);
  for (; d + 16 <= width; d += 16) mix_block<Q, 1>(p, p_stride, x + d, x_stride, n, out + d, out_stride, leap);
  if (d == width) return;
  for (int64_t i = 0; i < Q; ++i) {
    Vec sum = load_n(out + i * out_stride + d, width - d);
    for (int64_t j = 0; j < n; ++j)
      sum = fma(set1(p[i * p_stride + j]), load_row_n(x + j * x_stride + d, width - d), sum);
    store_n(out + i * out_stride + d, sum, width - d);
  }
}

template <typename T>
void mix_rows(const float* p, int64_t p_stride, int64_t rows, const T* x, int64_t x_stride, int64_t n, int64_t width,
              float* out, int64_t out_stride, const Leap& leap) {
  int64_t i = 0;
  for (; i + kCacheBlock <= rows; i += kCacheBlock)
    mix_some<kCacheBlock>(p + i * p_stride, p_stride, x, x_stride, n, width, out + i * out_stride, out_stride, leap);
  for (; i < rows; ++i)
    mix_some<1>(p + i * p_stride, p_stride, x, x_stride, n, width, out + i * out_stride, out_stride, leap);
}

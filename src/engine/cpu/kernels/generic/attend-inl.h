// Attention with a query in each lane: scores [keys][lanes], exponentials, and mixes [width][lanes]. Included inside an
// ISA namespace after simd.h and math-inl.h.
//
// Keys and values are read one element at a time, as they lie, and need no packing; a row's maximum and sum need no
// reduction across lanes. Every sum of a lane is one chain over ascending columns or keys: it depends neither on the
// other lanes nor on how keys are grouped.

inline constexpr int64_t kLanes = 16;  // of a Vec

// M rows of keys x Q vectors of queries. Four rows share one pointer, and the pointers are opaque to the compiler:
// it would give each row one of its own and run out of registers.
template <int M, int Q>
[[gnu::noinline]] void score_block(const float* q, const float* keys, int64_t stride, const float* next, int64_t size,
                                   float* out) {
  constexpr int kPointers = (M + 3) / 4;
  const float* row[kPointers];
#pragma GCC unroll 8
  for (int g = 0; g < kPointers; ++g) row[g] = keys + 4 * g * stride;
  Vec sum[M][Q];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int v = 0; v < Q; ++v) sum[m][v] = zero();
  for (int64_t d = 0; d < size; d += kLanes) {
    if (next != nullptr) {
      for (int m = 0; m < M; ++m) __builtin_prefetch(next + m * stride + d);
    }
    const float* end = q + (size - d < kLanes ? size - d : kLanes) * Q * kLanes;
    for (; q != end; q += Q * kLanes) {
      Vec query[Q];
#pragma GCC unroll 16
      for (int v = 0; v < Q; ++v) query[v] = load(q + v * kLanes);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const Vec x = set1(row[m / 4][m % 4 * stride]);
#pragma GCC unroll 16
        for (int v = 0; v < Q; ++v) sum[m][v] = fma(x, query[v], sum[m][v]);
      }
#pragma GCC unroll 8
      for (int g = 0; g < kPointers; ++g) {
        ++row[g];
        __asm__("" : "+r"(row[g]));
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int v = 0; v < Q; ++v) store(out + (m * Q + v) * kLanes, sum[m][v]);
}

template <int M, int Q>
inline void score_run(const float* q, const float*& keys, int64_t stride, const float*& next, int64_t& n, int64_t size,
                      float*& out) {
  for (; n >= M; n -= M) {
    score_block<M, Q>(q, keys, stride, next, size, out);
    keys += M * stride;
    if (next != nullptr) next += M * stride;
    out += M * Q * kLanes;
  }
}

// Rows of keys or columns of values that Q vectors of queries leave registers for.
template <int Q>
inline constexpr int kAttendRows = Q == 1 ? kRowsOfOneVector : kRowsOfVectors;

template <int Q>
inline void score_rows(const float* q, const RowRuns& rows, int64_t first, int64_t n, int64_t size, float* out) {
  for (int64_t end = first + n; first < end;) {
    const int64_t run = first / rows.run, inside = first % rows.run;
    int64_t count = rows.run - inside < end - first ? rows.run - inside : end - first;
    first += count;
    const int64_t offset = rows.offset + inside * rows.stride;
    const float* keys = rows.runs[run] + offset;
    // The next run is on its way while this one is worked on.
    const float* next = (run + 1) * rows.run < rows.count ? rows.runs[run + 1] + offset : nullptr;
    score_run<kAttendRows<Q>, Q>(q, keys, rows.stride, next, count, size, out);
    score_run<4, Q>(q, keys, rows.stride, next, count, size, out);
    score_run<1, Q>(q, keys, rows.stride, next, count, size, out);
  }
}

inline void attend_scores(const float* q, int64_t vectors, const RowRuns& rows, int64_t first, int64_t n, int64_t size,
                          float* out) {
  if (vectors == 1) score_rows<1>(q, rows, first, n, size, out);
  if constexpr (kQueryVectors > 1) {
    if (vectors == 2) score_rows<2>(q, rows, first, n, size, out);
    if (vectors == 3) score_rows<3>(q, rows, first, n, size, out);
  }
}

// out[0, M) = out * factor + the values' columns [0, M), weighted; `column` is the first column's place in a row.
template <int M, int Q>
[[gnu::noinline]] void blend_block(const float* p, const RowRuns& rows, int64_t column, int64_t first, int64_t n,
                                   const float* factor, float* out) {
  Vec sum[M][Q];
#pragma GCC unroll 16
  for (int v = 0; v < Q; ++v) {
    const Vec f = load(factor + v * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) sum[m][v] = mul(load(out + (m * Q + v) * kLanes), f);
  }
  const int64_t stride = rows.stride;
  for (const int64_t end = first + n; first < end;) {
    const int64_t inside = first % rows.run;
    const int64_t count = rows.run - inside < end - first ? rows.run - inside : end - first;
    const float* x = rows.runs[first / rows.run] + column + inside * stride;
    first += count;
    for (const float* stop = p + count * Q * kLanes; p != stop; p += Q * kLanes, x += stride) {
      Vec weight[Q];
#pragma GCC unroll 16
      for (int v = 0; v < Q; ++v) weight[v] = load(p + v * kLanes);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const Vec value = set1(x[m]);
#pragma GCC unroll 16
        for (int v = 0; v < Q; ++v) sum[m][v] = fma(value, weight[v], sum[m][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int v = 0; v < Q; ++v) store(out + (m * Q + v) * kLanes, sum[m][v]);
}

template <int Q>
inline void blend_columns(const float* p, const RowRuns& rows, int64_t first, int64_t n, int64_t size,
                          const float* factor, float* out) {
  constexpr int M = kAttendRows<Q>;
  int64_t d = 0;
  for (; d + M <= size; d += M) blend_block<M, Q>(p, rows, rows.offset + d, first, n, factor, out + d * Q * kLanes);
  for (; d + 4 <= size; d += 4) blend_block<4, Q>(p, rows, rows.offset + d, first, n, factor, out + d * Q * kLanes);
  for (; d < size; ++d) blend_block<1, Q>(p, rows, rows.offset + d, first, n, factor, out + d * Q * kLanes);
}

inline void attend_mix(const float* p, int64_t vectors, const RowRuns& rows, int64_t first, int64_t n, int64_t size,
                       const float* factor, float* out) {
  if (vectors == 1) blend_columns<1>(p, rows, first, n, size, factor, out);
  if constexpr (kQueryVectors > 1) {
    if (vectors == 2) blend_columns<2>(p, rows, first, n, size, factor, out);
    if (vectors == 3) blend_columns<3>(p, rows, first, n, size, factor, out);
  }
}

// Scores are powers of two here. s = 2^(s - top) with the new top; sum, and factor that brings what was summed under
// the old top to the new one.
inline void attend_softmax(float* s, int64_t vectors, int64_t n, float* top, float* sum, float* factor) {
  const int64_t stride = vectors * kLanes;
  for (int64_t v = 0; v < vectors; ++v) {
    float* x = s + v * kLanes;
    const Vec old = load(top + v * kLanes);
    Vec largest[4] = {old, old, old, old};
    int64_t j = 0;
    for (; j + 4 <= n; j += 4)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) largest[i] = max(largest[i], load(x + (j + i) * stride));
    for (; j < n; ++j) largest[0] = max(largest[0], load(x + j * stride));
    const Vec now = max(max(largest[0], largest[1]), max(largest[2], largest[3]));
    const Vec shrink = exp2(sub(old, now));
    Vec total = mul(load(sum + v * kLanes), shrink);
    for (j = 0; j < n; ++j) {
      const Vec e = exp2(sub(load(x + j * stride), now));
      store(x + j * stride, e);
      total = add(total, e);
    }
    store(top + v * kLanes, now);
    store(sum + v * kLanes, total);
    store(factor + v * kLanes, shrink);
  }
}

// out[c][r] = x[r][c] * factor
inline void transpose(const float* x, int64_t stride, int64_t rows, int64_t cols, float factor, float* out,
                      int64_t out_stride) {
  const Vec f = set1(factor);
  for (int64_t r = 0; r < rows; r += 16) {
    const int64_t m = rows - r < 16 ? rows - r : 16;
    for (int64_t c = 0; c < cols; c += 16) {
      const int64_t n = cols - c < 16 ? cols - c : 16;
      Vec block[16];
      for (int64_t i = 0; i < 16; ++i) block[i] = i < m ? mul(load_some(x + (r + i) * stride + c, n), f) : zero();
      transpose16(block);
      for (int64_t i = 0; i < n; ++i) store_some(out + (c + i) * out_stride + r, block[i], m);
    }
  }
}

// Attention of queries in the lanes over rows of a bf16 cache as they lie. Included inside namespace avx512bf16.
//
// vdpbf16ps adds two products at a time: scores take pairs of neighbouring columns, which lie together; mixes take
// pairs of neighbouring rows. A unit that adds two vectors of products a cycle loads no more than two, so every load
// feeds several: 64 bytes of a key are multiplied by 16 queries, 64 bytes of two rows of values by 8 weights each.
// A pair's missing half is zero on both sides. How sums are cut depends on the size of a row alone.

// As text: with the intrinsic the compiler keeps operands in registers that the sums need.
inline void dot_pairs(__m512& sum, __m512i a, __m512i b) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

// A row is read 32 values at a time, its last ones without touching what is behind them.
inline constexpr int64_t kChunk = 32;
inline __mmask32 chunk_mask(int64_t left) { return left >= kChunk ? ~__mmask32{0} : (__mmask32{1} << left) - 1; }
inline __m512i load_chunk(const BF16* x, __mmask32 mask) { return _mm512_maskz_loadu_epi16(mask, x); }

// What was stored in 8 bits, rounded to bf16.
void codes_to_bf16_row(BF16* out, const int8_t* codes, const BF16* scales, int64_t stride, int64_t n) {
  for (int64_t i = 0; i < n; i += kChunk) {
    const __mmask32 mask = chunk_mask(n - i);
    const __m256i x = _mm256_maskz_loadu_epi8(mask, codes + i);
    const __m512 scale = _mm512_set1_ps(to_float(scales[i / kCacheGroup * stride]));
    const auto widen = [&](__m128i bytes) {
      return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), scale);
    };
    const __m512bh pairs = _mm512_cvtne2ps_pbh(widen(_mm256_extracti128_si256(x, 1)), widen(_mm256_castsi256_si128(x)));
    _mm512_mask_storeu_epi16(out + i, mask, reinterpret_cast<const __m512i&>(pairs));
  }
}

// --- scores ---
//
// A chunk's 16 pairs lie in four quarters of four. A shuffle inside the quarters puts pair i of each into all of its
// quarter, so queries are laid out [vector][chunk][i 4][queries 4][quarter 4][query 4] pairs: what four queries have
// for these four pairs. A sum holds four queries' four parts, which are added in the end.

void attend_queries_bf16(const float* q, int64_t vectors, int64_t size, std::byte* out) {
  auto* to = reinterpret_cast<__m512i*>(out);
  const int64_t lanes = vectors * kPanel;
  for (int64_t v = 0; v < vectors; ++v, q += kPanel) {
    const auto column = [&](int64_t d) { return d < size ? load(q + d * lanes) : zero(); };
    const auto pair = [&](int64_t d) {  // of 16 queries
      alignas(64) BF16 values[2 * kPanel];
      store_bf16_pairs(values, column(d), column(d + 1));
      return _mm512_load_si512(values);
    };
    for (int64_t d = 0; d < size; d += kChunk)
      for (int64_t i = d; i < d + 8; i += 2, to += 4) {
        const __m512i a = pair(i), b = pair(i + 8), c = pair(i + 16), e = pair(i + 24);
        const __m512i ab_low = _mm512_shuffle_i32x4(a, b, 0x44), ab_high = _mm512_shuffle_i32x4(a, b, 0xee);
        const __m512i ce_low = _mm512_shuffle_i32x4(c, e, 0x44), ce_high = _mm512_shuffle_i32x4(c, e, 0xee);
        _mm512_store_si512(to, _mm512_shuffle_i32x4(ab_low, ce_low, 0x88));
        _mm512_store_si512(to + 1, _mm512_shuffle_i32x4(ab_low, ce_low, 0xdd));
        _mm512_store_si512(to + 2, _mm512_shuffle_i32x4(ab_high, ce_high, 0x88));
        _mm512_store_si512(to + 3, _mm512_shuffle_i32x4(ab_high, ce_high, 0xdd));
      }
  }
}

// Pair i of every quarter in all of its quarter.
inline __m512i spread(__m512i x, int i) {
  switch (i) {
    case 0:
      return _mm512_shuffle_epi32(x, _MM_PERM_AAAA);
    case 1:
      return _mm512_shuffle_epi32(x, _MM_PERM_BBBB);
    case 2:
      return _mm512_shuffle_epi32(x, _MM_PERM_CCCC);
    default:
      return _mm512_shuffle_epi32(x, _MM_PERM_DDDD);
  }
}

// M keys x 16 queries. ahead: M lines are fetched from it a chunk.
template <int M>
[[gnu::noinline]] void score_keys(const __m512i* q, const BF16* keys, int64_t stride, const std::byte* ahead,
                                  int64_t size, float* out, int64_t out_stride) {
  __m512 sum[M][4];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) sum[m][h] = _mm512_setzero_ps();
  for (int64_t left = size; left > 0; left -= kChunk, q += 16, keys += kChunk) {
    const __mmask32 mask = chunk_mask(left);
    for (int m = 0; m < M; ++m, ahead += 64) __builtin_prefetch(ahead);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        const __m512i x = spread(load_chunk(keys + m * stride, mask), i);
#pragma GCC unroll 4
        for (int h = 0; h < 4; ++h) dot_pairs(sum[m][h], _mm512_load_si512(q + 4 * i + h), x);
      }
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
    const __m512 a = _mm512_add_ps(_mm512_shuffle_f32x4(sum[m][0], sum[m][1], 0x44),
                                   _mm512_shuffle_f32x4(sum[m][0], sum[m][1], 0xee));
    const __m512 b = _mm512_add_ps(_mm512_shuffle_f32x4(sum[m][2], sum[m][3], 0x44),
                                   _mm512_shuffle_f32x4(sum[m][2], sum[m][3], 0xee));
    _mm512_storeu_ps(out + m * out_stride,
                     _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd)));
  }
}

// Keys whose rows are fetched ahead of those that are multiplied: 18 KB of latents.
inline constexpr int64_t kKeysAhead = 16;

void attend_scores_bf16(const std::byte* queries, int64_t vectors, const Bf16Runs& keys, int64_t first, int64_t n,
                        int64_t size, float* out) {
  const auto* q = reinterpret_cast<const __m512i*>(queries);
  const int64_t lanes = vectors * kPanel, vector_size = round_up(size, kChunk) / 2;
  for (const int64_t end = first + n; first < end;) {
    const int64_t run = keys.run - first % keys.run;  // what is left of it
    const int64_t count = run < end - first ? run : end - first;
    const auto some = [&]<int K>(Size<K>, int64_t j) {
      const int64_t next = first + j + kKeysAhead < keys.count ? first + j + kKeysAhead : keys.count - 1;
      for (int64_t v = 0; v < vectors; ++v)
        score_keys<K>(q + v * vector_size, keys.row(first + j), keys.stride,
                      reinterpret_cast<const std::byte*>(keys.row(next)), size, out + j * lanes + v * kPanel, lanes);
    };
    int64_t j = 0;
    for (; j + 4 <= count; j += 4) some(Size<4>{}, j);
    for (; j < count; ++j) some(Size<1>{}, j);
    first += count;
    out += count * lanes;
  }
}

// --- mixes ---

// Queries whose sums are in registers together.
inline constexpr int kMixed = 8;

// x [n][16 * vectors] to pairs of neighbouring rows, [n / 2, rounded up][16 * vectors][2].
inline void lanes_to_pairs(const float* x, int64_t vectors, int64_t n, BF16* out) {
  const int64_t stride = vectors * kPanel;
  for (int64_t j = 0; j < n; j += 2)
    for (int64_t l = 0; l < stride; l += kPanel, out += 2 * kPanel)
      store_bf16_pairs(out, load(x + j * stride + l), j + 1 < n ? load(x + (j + 1) * stride + l) : zero());
}

using Pair [[gnu::may_alias]] = uint32_t;

// out [8][size] = factor [8] out + weights x columns [d, d + 32) of the rows. ahead: what is fetched of every row.
[[gnu::noinline]] void mix_chunk(const BF16* weights, int64_t stride, const BF16* const* row, int64_t n, int64_t d,
                                 int64_t ahead, const float* factor, float* out, int64_t size) {
  const __mmask32 mask = chunk_mask(size - d);
  __m512 low[kMixed], high[kMixed];
#pragma GCC unroll 8
  for (int h = 0; h < kMixed; ++h) low[h] = high[h] = _mm512_setzero_ps();
  for (int64_t j = 0; j < n; j += 2, weights += stride) {
    const BF16* first = row[j];
    const BF16* second = row[j + 1];
    __builtin_prefetch(first + ahead);
    __builtin_prefetch(second + ahead);
    const __m512i a = load_chunk(first + d, mask), b = load_chunk(second + d, j + 1 < n ? mask : 0);
    const __m512i ab_low = _mm512_unpacklo_epi16(a, b), ab_high = _mm512_unpackhi_epi16(a, b);
#pragma GCC unroll 8
    for (int h = 0; h < kMixed; ++h) {
      const __m512i w = _mm512_set1_epi32(static_cast<int>(reinterpret_cast<const Pair*>(weights)[h]));
      dot_pairs(low[h], ab_low, w);
      dot_pairs(high[h], ab_high, w);
    }
  }
  // Of every eight columns, low has the first four.
  const __m512i front = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i back = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  const auto front_mask = static_cast<__mmask16>(mask), back_mask = static_cast<__mmask16>(mask >> kPanel);
  out += d;
#pragma GCC unroll 8
  for (int h = 0; h < kMixed; ++h, out += size) {
    const __m512 f = _mm512_set1_ps(factor[h]);
    const auto add = [&](float* to, __mmask16 columns, __m512 sum) {
      _mm512_mask_storeu_ps(to, columns, _mm512_fmadd_ps(_mm512_maskz_loadu_ps(columns, to), f, sum));
    };
    add(out, front_mask, _mm512_permutex2var_ps(low[h], front, high[h]));
    add(out + kPanel, back_mask, _mm512_permutex2var_ps(low[h], back, high[h]));
  }
}

void attend_mix_bf16(const float* p, int64_t vectors, const Bf16Runs& values, int64_t first, int64_t n, int64_t size,
                     const float* factor, float* out) {
  alignas(64) BF16 weights[kBf16Keys * kMaxLanes];
  const BF16* row[kBf16Keys + 1];
  const int64_t lanes = vectors * kPanel;
  lanes_to_pairs(p, vectors, n, weights);
  for (int64_t j = 0; j < n; ++j) row[j] = values.row(first + j);
  row[n] = row[n - 1];  // not read
  for (int64_t d = 0; d < size; d += kChunk)
    for (int64_t l = 0; l < lanes; l += kMixed) {
      // The first pass over a chunk brings it near, the last one the next chunk.
      const int64_t ahead = l + kMixed == lanes && d + kChunk < size ? d + kChunk : d;
      mix_chunk(weights + 2 * l, 2 * lanes, row, n, d, ahead, factor + l, out + l * size, size);
    }
}

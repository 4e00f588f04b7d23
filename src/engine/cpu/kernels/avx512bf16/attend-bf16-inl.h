// Attention of queries in the lanes over rows of a bf16 cache as they lie. Included inside namespace avx512bf16.
//
// vdpbf16ps adds two products at a time: scores take two neighbouring columns of a row, which lie together; mixes take
// a column of two neighbouring rows, which are brought together first. Every sum of a lane is one chain over ascending
// columns or keys, as in generic/attend-inl.h. A pair's missing half is zero on both sides.

using Pair [[gnu::may_alias, gnu::aligned(2)]] = uint32_t;  // rows of odd length begin anywhere

// sum + pairs . the pair at x, in every lane. As text: with the intrinsic the compiler keeps pairs in registers that
// the sums need.
inline void dot_pair(__m512& sum, __m512i pairs, const Pair* x) {
  __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(pairs), "m"(*x));
}

// x [n][16 * vectors] to pairs of neighbouring rows, [n / 2, rounded up][16 * vectors][2].
inline void lanes_to_pairs(const float* x, int64_t vectors, int64_t n, BF16* out) {
  const int64_t stride = vectors * kPanel;
  for (int64_t j = 0; j < n; j += 2)
    for (int64_t l = 0; l < stride; l += kPanel, out += 2 * kPanel)
      store_bf16_pairs(out, load(x + j * stride + l), j + 1 < n ? load(x + (j + 1) * stride + l) : zero());
}

// M rows of keys x Q vectors of queries. Four rows share a pointer that is opaque to the compiler: it would give each
// row one of its own and run out of registers.
template <int M, int Q>
[[gnu::noinline]] void score_pairs(const BF16* q, const BF16* keys, int64_t stride, const BF16* next, int64_t size,
                                   float* out) {
  constexpr int kPointers = (M + 3) / 4;
  const BF16* row[kPointers];
#pragma GCC unroll 8
  for (int g = 0; g < kPointers; ++g) row[g] = keys + 4 * g * stride;
  __m512 sum[M][Q];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int v = 0; v < Q; ++v) sum[m][v] = _mm512_setzero_ps();
  for (int64_t d = 0; d + 1 < size; d += 32) {
    if (next != nullptr) {
      for (int m = 0; m < M; ++m) __builtin_prefetch(next + m * stride + d);
    }
    const BF16* end = q + (size - d < 32 ? (size - d) / 2 : 16) * Q * 2 * kPanel;
    for (; q != end; q += Q * 2 * kPanel) {
      __m512i query[Q];
#pragma GCC unroll 16
      for (int v = 0; v < Q; ++v) query[v] = _mm512_loadu_si512(q + v * 2 * kPanel);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int v = 0; v < Q; ++v)
          dot_pair(sum[m][v], query[v], reinterpret_cast<const Pair*>(row[m / 4] + m % 4 * stride));
#pragma GCC unroll 8
      for (int g = 0; g < kPointers; ++g) {
        row[g] += 2;
        __asm__("" : "+r"(row[g]));
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int v = 0; v < Q; ++v) _mm512_storeu_ps(out + (m * Q + v) * kPanel, sum[m][v]);
  if (size % 2 == 0) return;
  for (int m = 0; m < M; ++m) {
    uint16_t half;
    std::memcpy(&half, keys + m * stride + size - 1, sizeof half);
    const Pair pair = half;
    for (int v = 0; v < Q; ++v) {
      __m512 last = _mm512_loadu_ps(out + (m * Q + v) * kPanel);
      dot_pair(last, _mm512_loadu_si512(q + v * 2 * kPanel), &pair);
      _mm512_storeu_ps(out + (m * Q + v) * kPanel, last);
    }
  }
}

template <int Q>
inline void score_pair_rows(const BF16* q, const Bf16Runs& rows, int64_t first, int64_t n, int64_t size, float* out) {
  constexpr int M = Q == 1 ? 16 : 8;
  for (const int64_t end = first + n; first < end;) {
    const int64_t run = first / rows.run, inside = first % rows.run;
    int64_t count = rows.run - inside < end - first ? rows.run - inside : end - first;
    first += count;
    const BF16* keys = rows.runs[run] + inside * rows.stride;
    // The next run is on its way while this one is worked on.
    const BF16* next = (run + 1) * rows.run < rows.count ? rows.runs[run + 1] + inside * rows.stride : nullptr;
    const auto some = [&]<int K>(Size<K>) {
      for (; count >= K; count -= K, keys += K * rows.stride, out += K * Q * kPanel) {
        score_pairs<K, Q>(q, keys, rows.stride, next, size, out);
        if (next != nullptr) next += K * rows.stride;
      }
    };
    some(Size<M>{});
    some(Size<4>{});
    some(Size<1>{});
  }
}

void attend_scores_bf16(const float* q, int64_t vectors, const Bf16Runs& keys, int64_t first, int64_t n, int64_t size,
                        std::byte* room, float* out) {
  auto* pairs = reinterpret_cast<BF16*>(room);
  lanes_to_pairs(q, vectors, size, pairs);
  if (vectors == 1) score_pair_rows<1>(pairs, keys, first, n, size, out);
  if (vectors == 2) score_pair_rows<2>(pairs, keys, first, n, size, out);
  if (vectors == 3) score_pair_rows<3>(pairs, keys, first, n, size, out);
}

// out[0, M) = out * factor + columns [0, M) of the values, weighted. columns: [pairs][16], p: [pairs][lanes][2].
template <int M, int Q>
[[gnu::noinline]] void blend_pairs(const BF16* p, const Pair* columns, int64_t pairs, const float* factor, float* out) {
  __m512 sum[M][Q];
#pragma GCC unroll 16
  for (int v = 0; v < Q; ++v) {
    const __m512 f = _mm512_loadu_ps(factor + v * kPanel);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) sum[m][v] = _mm512_mul_ps(_mm512_loadu_ps(out + (m * Q + v) * kPanel), f);
  }
  for (const Pair* end = columns + pairs * kPanel; columns != end; columns += kPanel, p += Q * 2 * kPanel) {
    __m512i weight[Q];
#pragma GCC unroll 16
    for (int v = 0; v < Q; ++v) weight[v] = _mm512_loadu_si512(p + v * 2 * kPanel);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
      for (int v = 0; v < Q; ++v) dot_pair(sum[m][v], weight[v], columns + m);
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int v = 0; v < Q; ++v) _mm512_storeu_ps(out + (m * Q + v) * kPanel, sum[m][v]);
}

template <int Q>
inline void blend_pair_columns(const BF16* p, const BF16* const* row, int64_t n, int64_t size, const float* factor,
                               Pair* columns, float* out) {
  constexpr int M = Q == 1 ? 16 : 8;
  const int64_t pairs = (n + 1) / 2;
  for (int64_t d = 0; d < size; d += kPanel) {
    const int64_t count = size - d < kPanel ? size - d : kPanel;
    const auto mask = static_cast<__mmask16>((1u << count) - 1);
    for (int64_t j = 0; j < n; j += 2) {
      const __m512i a = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row[j] + d));
      const __m512i b =
          j + 1 < n ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row[j + 1] + d)) : _mm512_setzero_si512();
      _mm512_storeu_si512(columns + j / 2 * kPanel, _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
    }
    int64_t c = 0;
    float* to = out + d * Q * kPanel;
    for (; c + M <= count; c += M) blend_pairs<M, Q>(p, columns + c, pairs, factor, to + c * Q * kPanel);
    for (; c < count; ++c) blend_pairs<1, Q>(p, columns + c, pairs, factor, to + c * Q * kPanel);
  }
}

void attend_mix_bf16(const float* p, int64_t vectors, const Bf16Runs& values, int64_t first, int64_t n, int64_t size,
                     const float* factor, std::byte* room, float* out) {
  auto* pairs = reinterpret_cast<BF16*>(room);
  auto* columns = reinterpret_cast<Pair*>(pairs + round_up(n, 2) * vectors * kPanel);
  const BF16* row[kBf16Keys];
  for (int64_t j = 0; j < n; ++j) row[j] = values.row(first + j);
  lanes_to_pairs(p, vectors, n, pairs);
  if (vectors == 1) blend_pair_columns<1>(pairs, row, n, size, factor, columns, out);
  if (vectors == 2) blend_pair_columns<2>(pairs, row, n, size, factor, columns, out);
  if (vectors == 3) blend_pair_columns<3>(pairs, row, n, size, factor, columns, out);
}

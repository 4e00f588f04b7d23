// Sixteen floats in two AVX registers. Included inside namespace vl2::cpu::avx2, in its target region.

inline constexpr const char* kIsaName = "avx2";
inline constexpr int kRowGroup = 6;  // 6 x 2 sums, 2 weights and 1 activation fill the 16 registers
inline constexpr int kPanelsAtOnce = 1;

// Attention: vectors of queries, and rows beside one vector or beside several; rows x queries of a decode step.
inline constexpr int kQueryVectors = 1;
inline constexpr int kRowsOfOneVector = 6;
inline constexpr int kRowsOfVectors = 6;
inline constexpr int kCacheBlock = 2;

struct Vec {
  __m256 lo, hi;
};

inline Vec zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vec set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline __m256i tail_mask(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vec load_n(const float* p, int64_t n) {
  const __m256i low = tail_mask(n), high = tail_mask(n - 8);
  return {_mm256_maskload_ps(p, low), _mm256_maskload_ps(p + 8, high)};
}
inline void store(float* p, const Vec& x) {
  _mm256_storeu_ps(p, x.lo);
  _mm256_storeu_ps(p + 8, x.hi);
}
inline void store_n(float* p, const Vec& x, int64_t n) {
  _mm256_maskstore_ps(p, tail_mask(n), x.lo);
  _mm256_maskstore_ps(p + 8, tail_mask(n - 8), x.hi);
}
inline Vec fma(const Vec& a, const Vec& b, const Vec& c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline Vec add(const Vec& a, const Vec& b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline Vec sub(const Vec& a, const Vec& b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline Vec mul(const Vec& a, const Vec& b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline Vec div(const Vec& a, const Vec& b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline Vec max(const Vec& a, const Vec& b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline Vec min(const Vec& a, const Vec& b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline Vec round(const Vec& a) {
  return {_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline __m256 power_of_two(__m256 n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
inline Vec scale_by_power(const Vec& x, const Vec& n) {
  return {_mm256_mul_ps(x.lo, power_of_two(n.lo)), _mm256_mul_ps(x.hi, power_of_two(n.hi))};
}
inline float reduce_add(const Vec& a) {
  const __m256 s8 = _mm256_add_ps(a.lo, a.hi);
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float reduce_add1(const Vec& x) { return reduce_add(x); }
inline float reduce_max(const Vec& a) {
  const __m256 m8 = _mm256_max_ps(a.lo, a.hi);
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
inline __m256 widen(__m128i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16)); }
inline Vec load_bf16(const BF16* p) {
  const auto* q = reinterpret_cast<const __m128i*>(p);
  return {widen(_mm_loadu_si128(q)), widen(_mm_loadu_si128(q + 1))};
}
inline Vec load_bf16_n(const BF16* p, int64_t n) {
  BF16 padded[16] = {};
  for (int64_t i = 0; i < n; ++i) padded[i] = p[i];
  return load_bf16(padded);
}
inline Vec load_firsts(const BF16* p) {
  const auto* q = reinterpret_cast<const __m256i*>(p);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(q), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(q + 1), 16))};
}
inline Vec load_seconds(const BF16* p) {
  const auto* q = reinterpret_cast<const __m256i*>(p);
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  return {_mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(q), upper)),
          _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(q + 1), upper))};
}
// The 32 bits whose upper half is x rounded to nearest even; NaNs stay NaNs.
inline __m256i round_bits(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256 is_nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(is_nan));
}
inline Vec round_to_bf16(const Vec& x) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  return {_mm256_castsi256_ps(_mm256_and_si256(round_bits(x.lo), upper)),
          _mm256_castsi256_ps(_mm256_and_si256(round_bits(x.hi), upper))};
}
inline void store_bf16(BF16* p, const Vec& x) {
  const __m256i low = _mm256_srli_epi32(round_bits(x.lo), 16), high = _mm256_srli_epi32(round_bits(x.hi), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packed);
}
inline void transpose8(__m256* x) {
  __m256 a[8], b[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
  }
  // b[i + c]: of rows i .. i + 3, columns c and c + 4.
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
#pragma GCC unroll 8
  for (int c = 0; c < 4; ++c) {
    x[c] = _mm256_permute2f128_ps(b[c], b[4 + c], 0x20);
    x[4 + c] = _mm256_permute2f128_ps(b[c], b[4 + c], 0x31);
  }
}
// x[i] lane j and x[j] lane i change places.
inline void transpose16(Vec* x) {
  __m256 part[4][8];  // of a square of four: upper left, lower left, upper right, lower right
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    part[0][i] = x[i].lo;
    part[1][i] = x[8 + i].lo;
    part[2][i] = x[i].hi;
    part[3][i] = x[8 + i].hi;
  }
#pragma GCC unroll 8
  for (auto& p : part) transpose8(p);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    x[i] = {part[0][i], part[1][i]};
    x[8 + i] = {part[2][i], part[3][i]};
  }
}
inline __m256i bf16_pairs(__m256 first, __m256 second) {
  const __m256i upper = _mm256_and_si256(round_bits(second), _mm256_set1_epi32(static_cast<int>(0xffff0000u)));
  return _mm256_or_si256(upper, _mm256_srli_epi32(round_bits(first), 16));
}
inline void store_bf16_pairs(BF16* p, const Vec& first, const Vec& second) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bf16_pairs(first.lo, second.lo));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 16), bf16_pairs(first.hi, second.hi));
}

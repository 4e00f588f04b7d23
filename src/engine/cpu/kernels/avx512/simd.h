// Sixteen floats in one AVX-512 register. Included inside a namespace and target region with F, BW, DQ and VL.

inline constexpr const char* kIsaName = "avx512";
inline constexpr int kRowGroup = 12;  // 12 x 2 sums of the 32 registers
inline constexpr int kPanelsAtOnce = 2;

// Attention: vectors of queries, and rows beside one vector or beside several; rows x queries of a decode step.
inline constexpr int kQueryVectors = 3;
inline constexpr int kRowsOfOneVector = 16;
inline constexpr int kRowsOfVectors = 8;
inline constexpr int kCacheBlock = 4;

struct Vec {
  __m512 v;
};

inline Vec zero() { return {_mm512_setzero_ps()}; }
inline Vec set1(float x) { return {_mm512_set1_ps(x)}; }
inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline __mmask16 tail_mask(int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1u);
}
inline Vec load_n(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(tail_mask(n), p)}; }
inline void store(float* p, const Vec& x) { _mm512_storeu_ps(p, x.v); }
inline void store_n(float* p, const Vec& x, int64_t n) { _mm512_mask_storeu_ps(p, tail_mask(n), x.v); }
inline Vec fma(const Vec& a, const Vec& b, const Vec& c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec add(const Vec& a, const Vec& b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec sub(const Vec& a, const Vec& b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec mul(const Vec& a, const Vec& b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec div(const Vec& a, const Vec& b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec max(const Vec& a, const Vec& b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec min(const Vec& a, const Vec& b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec round(const Vec& a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vec scale_by_power(const Vec& x, const Vec& n) { return {_mm512_scalef_ps(x.v, n.v)}; }
inline float reduce_add(const Vec& a) { return _mm512_reduce_add_ps(a.v); }
inline float reduce_max(const Vec& a) { return _mm512_reduce_max_ps(a.v); }
inline __m512 widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
inline Vec load_bf16(const BF16* p) { return {widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}; }
inline Vec load_bf16_n(const BF16* p, int64_t n) { return {widen(_mm256_maskz_loadu_epi16(tail_mask(n), p))}; }
inline Vec load_firsts(const BF16* p) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))}; }
inline Vec load_seconds(const BF16* p) {
  return {
      _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}
// The 32 bits whose upper half is x rounded to nearest even; NaNs stay NaNs.
inline __m512i round_bits(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(_mm512_set1_epi32(0x7fff), odd));
  const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x400000));
}
inline Vec round_to_bf16(const Vec& x) {
  return {_mm512_castsi512_ps(_mm512_and_si512(round_bits(x.v), _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}
inline void store_bf16(BF16* p, const Vec& x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_bits(x.v), 16)));
}
// x[i] lane j and x[j] lane i change places.
inline void transpose16(Vec* x) {
  __m512 a[16], b[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {
    a[i] = _mm512_unpacklo_ps(x[i].v, x[i + 1].v);
    a[i + 1] = _mm512_unpackhi_ps(x[i].v, x[i + 1].v);
    a[i + 2] = _mm512_unpacklo_ps(x[i + 2].v, x[i + 3].v);
    a[i + 3] = _mm512_unpackhi_ps(x[i + 2].v, x[i + 3].v);
  }
  // b[i + c]: of rows i .. i + 3, columns c, c + 4, c + 8, c + 12.
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {
    b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
#pragma GCC unroll 16
  for (int c = 0; c < 4; ++c) {
    const __m512 low02 = _mm512_shuffle_f32x4(b[c], b[4 + c], 0x88);
    const __m512 low13 = _mm512_shuffle_f32x4(b[c], b[4 + c], 0xdd);
    const __m512 high02 = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0x88);
    const __m512 high13 = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0xdd);
    x[c].v = _mm512_shuffle_f32x4(low02, high02, 0x88);
    x[4 + c].v = _mm512_shuffle_f32x4(low13, high13, 0x88);
    x[8 + c].v = _mm512_shuffle_f32x4(low02, high02, 0xdd);
    x[12 + c].v = _mm512_shuffle_f32x4(low13, high13, 0xdd);
  }
}
inline void store_bf16_pairs(BF16* p, const Vec& first, const Vec& second) {
  const __m512i upper = _mm512_and_si512(round_bits(second.v), _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
  _mm512_storeu_si512(p, _mm512_or_si512(upper, _mm512_srli_epi32(round_bits(first.v), 16)));
}

// Stored codes and rounded activations in AVX2 registers. Included inside a namespace and target region after simd.h;
// products come from dot_words.h or, with AVX-VNNI, from avxvnni/dot_vnni.h.

struct Sums {
  __m256i lo, hi;
};
struct Codes {
  __m256i lo, hi;
};

inline constexpr int kQuantPanels = 1;
inline constexpr int64_t kQuantAhead = 4096;  // bytes ahead that streaming codes are fetched

inline __m256 signed_half(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline Vec load_signed(const int8_t* p) { return {signed_half(p), signed_half(p + 8)}; }
inline Sums set_sums(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Codes load_codes(const uint8_t* p) {
  const auto* q = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
inline __m256i nibble_mask() { return _mm256_set1_epi8(15); }
inline Codes low_nibbles(const Codes& x) {
  return {_mm256_and_si256(x.lo, nibble_mask()), _mm256_and_si256(x.hi, nibble_mask())};
}
inline Codes high_nibbles(const Codes& x) {
  return {_mm256_and_si256(_mm256_srli_epi16(x.lo, 4), nibble_mask()),
          _mm256_and_si256(_mm256_srli_epi16(x.hi, 4), nibble_mask())};
}
inline __m256i four_bytes(const int8_t* a) {
  int32_t word;
  std::memcpy(&word, a, sizeof word);
  return _mm256_set1_epi32(word);
}
inline Sums add(const Sums& a, const Sums& b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
inline Vec to_floats(const Sums& x) { return {_mm256_cvtepi32_ps(x.lo), _mm256_cvtepi32_ps(x.hi)}; }
inline __m256i whole_words(const Vec& x) {
  return _mm256_packs_epi32(_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi));
}
// 64 floats rounded to whole numbers, nearest even; |x| <= 127.
inline void store_bytes(int8_t* p, const Vec* x) {
  // Packing stays inside lanes of 128 bits.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (int i = 0; i < 4; i += 2) {
    const __m256i bytes = _mm256_packs_epi16(whole_words(x[i]), whole_words(x[i + 1]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 16 * i), _mm256_permutevar8x32_epi32(bytes, order));
  }
}
// n is a multiple of 64.
inline int32_t sum_bytes(const int8_t* p, int64_t n) {
  __m256i sum = _mm256_setzero_si256();
  for (int64_t i = 0; i < n; i += 32) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i));
    const __m256i words = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
  }
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_srli_epi64(two, 32)));
}

// Stored codes and rounded activations in AVX-512 registers. Included inside a namespace and target region with F, BW,
// DQ and VL after simd.h; dot_bytes and dot_nibbles come from dot_words.h or, with VNNI, from dot_vnni.h.

struct Sums {
  __m512i v;
};
struct Codes {
  __m512i v;
};

inline constexpr int kQuantRows = 12;  // 12 x 2 sums of the 32 registers
inline constexpr int kQuantPanels = 2;
inline constexpr int kStreamSums = 16;        // that few rows keep in registers
inline constexpr int64_t kQuantAhead = 6144;  // bytes ahead that streaming codes are fetched

inline __m512 signed_bytes(__m128i x) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x)); }
inline Vec load_signed(const int8_t* p) { return {signed_bytes(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
inline Sums set_sums(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline Codes load_codes(const uint8_t* p) {
  __m512i codes = _mm512_loadu_si512(p);
  __asm__("" : "+v"(codes));  // or the compiler loads low and high nibbles each from memory
  return {codes};
}
inline Codes low_nibbles(const Codes& x) { return {_mm512_and_si512(x.v, _mm512_set1_epi8(15))}; }
inline Codes high_nibbles(const Codes& x) {
  return {_mm512_and_si512(_mm512_srli_epi16(x.v, 4), _mm512_set1_epi8(15))};
}
inline __m512i four_bytes(const int8_t* a) {
  int32_t word;
  std::memcpy(&word, a, sizeof word);
  return _mm512_set1_epi32(word);
}
inline Sums add(const Sums& a, const Sums& b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline Vec to_floats(const Sums& x) { return {_mm512_cvtepi32_ps(x.v)}; }
// 64 floats rounded to whole numbers, nearest even; |x| <= 127.
inline void store_bytes(int8_t* p, const Vec* x) {
  const __m512i a = _mm512_packs_epi32(_mm512_cvtps_epi32(x[0].v), _mm512_cvtps_epi32(x[1].v));
  const __m512i b = _mm512_packs_epi32(_mm512_cvtps_epi32(x[2].v), _mm512_cvtps_epi32(x[3].v));
  // Packing stays inside lanes of 128 bits: words 4 l + i belong to x[i].
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, _mm512_packs_epi16(a, b)));
}
// n is a multiple of 64.
inline int32_t sum_bytes(const int8_t* p, int64_t n) {
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < n; i += 64) {
    const __m512i words = _mm512_maddubs_epi16(_mm512_set1_epi8(1), _mm512_loadu_si512(p + i));
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(words, _mm512_set1_epi16(1)));
  }
  return _mm512_reduce_add_epi32(sum);
}

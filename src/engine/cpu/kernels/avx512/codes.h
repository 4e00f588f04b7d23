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
inline constexpr int64_t kQuantAhead = 4096;  // bytes ahead that streaming codes are fetched

inline Sums set_sums(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline Codes load_codes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
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
inline void store_bytes(int8_t* p, const Vec& x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x.v)));
}
inline int32_t sum_bytes(const int8_t* p, int64_t n) {
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i + 16 <= n; i += 16)
    sum = _mm512_add_epi32(sum, _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i))));
  return _mm512_reduce_add_epi32(sum);
}

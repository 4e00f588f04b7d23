// Products of codes without VNNI: bytes to pairs of 16 bits to 32 bits. Included after codes.h.

inline constexpr int kByteOffset = 128;

// u is unsigned, s signed; no pair of products may leave 16 bits.
inline Sums dot_nibbles(const Sums& sums, const Codes& codes, const int8_t* a) {
  const __m512i words = _mm512_maddubs_epi16(codes.v, four_bytes(a));
  return {_mm512_add_epi32(sums.v, _mm512_madd_epi16(words, _mm512_set1_epi16(1)))};
}
// 255 x 127 twice would not fit: the upper and the lower half of a code one after the other.
inline Sums dot_bytes(const Sums& sums, const Codes& codes, const int8_t* a) {
  const __m512i words = _mm512_maddubs_epi16(high_nibbles(codes).v, four_bytes(a));
  const Sums upper = {_mm512_add_epi32(sums.v, _mm512_madd_epi16(words, _mm512_set1_epi16(16)))};
  return dot_nibbles(upper, low_nibbles(codes), a);
}

// Products of codes with VNNI. Included after avx512/codes.h in a target region with AVX512_VNNI.

inline constexpr int kByteOffset = 128;

inline Sums dot_bytes(const Sums& sums, const Codes& codes, const int8_t* a) {
  return {_mm512_dpbusd_epi32(sums.v, codes.v, four_bytes(a))};
}
inline Sums dot_nibbles(const Sums& sums, const Codes& codes, const int8_t* a) { return dot_bytes(sums, codes, a); }

// Products of codes with AVX-VNNI. Included after avx2/codes.h in a target region with it.

inline constexpr int kQuantRows = 5;   // 5 x 2 sums of the 16 registers
inline constexpr int kStreamSums = 5;  // that few rows keep in registers
inline constexpr int kByteOffset = 128;
inline constexpr bool kWordsOfBytes = false, kWordsOfNibbles = false;

// As text: around the intrinsic the compiler copies sums back and forth, and spills some.
inline __m256i dot_half(__m256i sums, __m256i codes, __m256i a) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(codes), "x"(a));
  return sums;
}
inline Sums dot_bytes(const Sums& sums, const Codes& codes, const int8_t* a) {
  const __m256i four = four_bytes(a);
  return {dot_half(sums.lo, codes.lo, four), dot_half(sums.hi, codes.hi, four)};
}
inline Sums dot_nibbles(const Sums& sums, const Codes& codes, const int8_t* a) { return dot_bytes(sums, codes, a); }

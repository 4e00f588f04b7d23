// Products of codes without VNNI: bytes to words of 16 bits to 32 bits. Included after codes.h.

inline constexpr int kQuantRows = 4;   // 4 x 2 sums of the 16 registers
inline constexpr int kStreamSums = 4;  // that few rows keep in registers
inline constexpr int kByteOffset = 0;  // dot_bytes makes the codes signed first
inline constexpr bool kWordsOfBytes = false, kWordsOfNibbles = true;

// Two products of 127 x 127 stay below 2^15: |q| unsigned, the sign of q moved to a.
inline __m256i dot_signed(__m256i sums, __m256i codes, __m256i s) {
  __m256i products;
  __asm__("vpsignb %2, %3, %1\n\tvpmaddubsw %1, %4, %1\n\tvpmaddwd %5, %1, %1\n\tvpaddd %1, %0, %0"
          : "+x"(sums), "=&x"(products)
          : "x"(codes), "x"(s), "x"(_mm256_abs_epi8(codes)), "x"(_mm256_set1_epi16(1)));
  return sums;
}
inline Sums dot_bytes(const Sums& sums, const Codes& codes, const int8_t* a) {
  const __m256i s = four_bytes(a), offset = _mm256_set1_epi8(-128);
  return {dot_signed(sums.lo, _mm256_xor_si256(codes.lo, offset), s),
          dot_signed(sums.hi, _mm256_xor_si256(codes.hi, offset), s)};
}
inline Sums add_words(const Sums& words, const Codes& nibbles, const int8_t* a) {
  const __m256i s = four_bytes(a);
  Sums result = words;
  __m256i products;
  // As text: around intrinsics the compiler adds products first, and spills the sums.
  __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(result.lo), "=&x"(products) : "x"(nibbles.lo), "x"(s));
  __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(result.hi), "=&x"(products) : "x"(nibbles.hi), "x"(s));
  return result;
}
inline Sums whole_sums(const Sums& words, int16_t factor) {
  return {_mm256_madd_epi16(words.lo, _mm256_set1_epi16(factor)),
          _mm256_madd_epi16(words.hi, _mm256_set1_epi16(factor))};
}

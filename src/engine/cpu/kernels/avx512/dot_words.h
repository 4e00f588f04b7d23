// Products of codes without VNNI: bytes to pairs of 16 bits to 32 bits. Included after codes.h.

inline constexpr int kByteOffset = 128;
inline constexpr bool kWordsOfBytes = true, kWordsOfNibbles = true;

inline Sums add_words(const Sums& words, const Codes& nibbles, const int8_t* a) {
  Sums result = words;
  __m512i products;
  // As text: around intrinsics the compiler adds products first, and spills the sums.
  __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"
          : "+v"(result.v), "=&v"(products)
          : "v"(nibbles.v), "v"(four_bytes(a)));
  return result;
}
inline Sums whole_sums(const Sums& words, int16_t factor) {
  return {_mm512_madd_epi16(words.v, _mm512_set1_epi16(factor))};
}

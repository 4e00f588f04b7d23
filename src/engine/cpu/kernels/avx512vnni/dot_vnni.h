// Products of codes with VNNI. Included after avx512/codes.h in a target region with AVX512_VNNI.

inline constexpr int kByteOffset = 128;
inline constexpr bool kWordsOfBytes = false, kWordsOfNibbles = false;

inline Sums dot_bytes(const Sums& sums, const Codes& codes, const int8_t* a) {
  Sums result = sums;
  // As text: around the intrinsic the compiler copies sums back and forth, and spills some.
  __asm__("vpdpbusd %2, %1, %0" : "+v"(result.v) : "v"(codes.v), "v"(four_bytes(a)));
  return result;
}
inline Sums dot_nibbles(const Sums& sums, const Codes& codes, const int8_t* a) { return dot_bytes(sums, codes, a); }

// The words of four rows side by side, by one load: shuffles have units of their own, loads have two.
template <typename Kind>
inline void dot_four(Kind, Sums* sums, const Codes& codes, const int8_t* a) {
  const __m512i words = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a)));
  const auto dot = [&](Sums& sum, __m512i word) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(codes.v), "v"(word));
  };
  dot(sums[0], _mm512_shuffle_epi32(words, _MM_PERM_AAAA));
  dot(sums[1], _mm512_shuffle_epi32(words, _MM_PERM_BBBB));
  dot(sums[2], _mm512_shuffle_epi32(words, _MM_PERM_CCCC));
  dot(sums[3], _mm512_shuffle_epi32(words, _MM_PERM_DDDD));
}

// Products of codes with VNNI. Included after avx512/codes.h in a target region with AVX512_VNNI.

inline constexpr int kByteOffset = 128;

inline Sums dot_bytes(const Sums& sums, const Codes& codes, const int8_t* a) {
  Sums result = sums;
  // As text: around the intrinsic the compiler copies sums back and forth, and spills some.
  __asm__("vpdpbusd %2, %1, %0" : "+v"(result.v) : "v"(codes.v), "v"(four_bytes(a)));
  return result;
}
inline Sums dot_nibbles(const Sums& sums, const Codes& codes, const int8_t* a) { return dot_bytes(sums, codes, a); }

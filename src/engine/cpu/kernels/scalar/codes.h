// Products of stored codes and rounded activations in plain C++. Included inside namespace vl2::cpu::scalar after
// simd.h.

// Sixteen whole numbers, one a column.
struct Sums {
  int32_t v[16];
};
// 64 codes, [16 columns][4 k].
struct Codes {
  uint8_t v[64];
};

inline constexpr int kQuantRows = 4;     // rows of A that share the codes
inline constexpr int kQuantPanels = 1;   // panels they are multiplied with at once
inline constexpr int kByteOffset = 128;  // what dot_bytes leaves in the codes of q8
inline constexpr bool kWordsOfBytes = false, kWordsOfNibbles = false;
inline constexpr int kStreamSums = 2;      // that few rows keep in registers
inline constexpr int64_t kQuantAhead = 0;  // bytes ahead that streaming codes are fetched

inline Vec load_signed(const int8_t* p) {
  return lanes([&](int i) { return static_cast<float>(p[i]); });
}
inline Sums set_sums(int32_t x) {
  Sums r;
  for (int32_t& s : r.v) s = x;
  return r;
}
inline Codes load_codes(const uint8_t* p) {
  Codes r;
  std::memcpy(r.v, p, sizeof r.v);
  return r;
}
inline Codes low_nibbles(const Codes& x) {
  Codes r;
  for (int i = 0; i < 64; ++i) r.v[i] = x.v[i] & 15;
  return r;
}
inline Codes high_nibbles(const Codes& x) {
  Codes r;
  for (int i = 0; i < 64; ++i) r.v[i] = static_cast<uint8_t>(x.v[i] >> 4);
  return r;
}
// sums[c] += codes[c][0..3] . a[0..3]
inline Sums dot_bytes(const Sums& sums, const Codes& codes, const int8_t* a) {
  Sums r = sums;
  for (int c = 0; c < 16; ++c)
    for (int k = 0; k < 4; ++k) r.v[c] += int32_t{codes.v[4 * c + k]} * a[k];
  return r;
}
// The same for codes up to 15.
inline Sums dot_nibbles(const Sums& sums, const Codes& codes, const int8_t* a) { return dot_bytes(sums, codes, a); }
inline Sums add(const Sums& a, const Sums& b) {
  Sums r;
  for (int i = 0; i < 16; ++i) r.v[i] = a.v[i] + b.v[i];
  return r;
}
inline Vec to_floats(const Sums& x) {
  return lanes([&](int i) { return static_cast<float>(x.v[i]); });
}
// 64 floats rounded to whole numbers, nearest even; |x| <= 127.
inline void store_bytes(int8_t* p, const Vec* x) {
  for (int i = 0; i < 64; ++i) p[i] = static_cast<int8_t>(std::nearbyint(x[i / 16].v[i % 16]));
}
inline int32_t sum_bytes(const int8_t* p, int64_t n) {
  int32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += p[i];
  return sum;
}

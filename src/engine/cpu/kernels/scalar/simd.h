// Sixteen floats in plain C++: the definition the vector versions follow. Included inside namespace vl2::cpu::scalar.

inline constexpr const char* kIsaName = "scalar";
inline constexpr int kRowGroup = 4;
inline constexpr int kPanelsAtOnce = 1;

// Attention: vectors of queries, and rows beside one vector or beside several; rows x queries of a decode step.
inline constexpr int kQueryVectors = 1;
inline constexpr int kRowsOfOneVector = 2;
inline constexpr int kRowsOfVectors = 1;
inline constexpr int kCacheBlock = 2;

struct Vec {
  float v[16];
};

template <typename Fn>
inline Vec lanes(Fn fn) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.v[i] = fn(i);
  return r;
}

inline Vec zero() { return {}; }
inline Vec set1(float x) {
  // Opaque: GCC 12 would load the values of two rows at once, the second behind the last one.
#if defined(__x86_64__)
  __asm__("" : "+x"(x));
#elif defined(__aarch64__)
  __asm__("" : "+w"(x));
#endif
  return lanes([x](int) { return x; });
}
inline Vec load(const float* p) {
  return lanes([p](int i) { return p[i]; });
}
inline Vec load_n(const float* p, int64_t n) {
  return lanes([p, n](int i) { return i < n ? p[i] : 0.0f; });
}
inline void store(float* p, const Vec& x) {
  for (int i = 0; i < 16; ++i) p[i] = x.v[i];
}
inline void store_n(float* p, const Vec& x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = x.v[i];
}
inline Vec fma(const Vec& a, const Vec& b, const Vec& c) {
  return lanes([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
inline Vec add(const Vec& a, const Vec& b) {
  return lanes([&](int i) { return a.v[i] + b.v[i]; });
}
inline Vec sub(const Vec& a, const Vec& b) {
  return lanes([&](int i) { return a.v[i] - b.v[i]; });
}
inline Vec mul(const Vec& a, const Vec& b) {
  return lanes([&](int i) { return a.v[i] * b.v[i]; });
}
inline Vec div(const Vec& a, const Vec& b) {
  return lanes([&](int i) { return a.v[i] / b.v[i]; });
}
inline Vec max(const Vec& a, const Vec& b) {
  return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec min(const Vec& a, const Vec& b) {
  return lanes([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec round(const Vec& a) {
  return lanes([&](int i) { return std::nearbyint(a.v[i]); });
}
// x * 2^n for whole n in [-126, 127].
inline Vec scale_by_power(const Vec& x, const Vec& n) {
  return lanes([&](int i) { return x.v[i] * std::bit_cast<float>((static_cast<int32_t>(n.v[i]) + 127) << 23); });
}
inline float reduce_add(const Vec& a) {
  float s[8];
  for (int i = 0; i < 8; ++i) s[i] = a.v[i] + a.v[i + 8];
  for (int width = 4; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) s[i] += s[i + width];
  return s[0];
}
inline float reduce_add1(const Vec& x) { return reduce_add(x); }
inline float reduce_max(const Vec& a) {
  float m = a.v[0];
  for (int i = 1; i < 16; ++i) m = a.v[i] > m ? a.v[i] : m;
  return m;
}
inline Vec load_bf16(const BF16* p) {
  return lanes([p](int i) { return to_float(p[i]); });
}
inline Vec load_bf16_n(const BF16* p, int64_t n) {
  return lanes([p, n](int i) { return i < n ? to_float(p[i]) : 0.0f; });
}
// Of sixteen pairs of bf16: the first of each pair, and the second.
inline Vec load_firsts(const BF16* p) {
  return lanes([p](int i) { return to_float(p[2 * i]); });
}
inline Vec load_seconds(const BF16* p) {
  return lanes([p](int i) { return to_float(p[2 * i + 1]); });
}
inline Vec round_to_bf16(const Vec& x) {
  return lanes([&](int i) { return to_float(to_bf16(x.v[i])); });
}
inline void store_bf16(BF16* p, const Vec& x) {
  for (int i = 0; i < 16; ++i) p[i] = to_bf16(x.v[i]);
}
inline void transpose16(Vec* x) {
  float in[16][16];
  for (int i = 0; i < 16; ++i) store(in[i], x[i]);
  for (int i = 0; i < 16; ++i) {
    float column[16];
    for (int j = 0; j < 16; ++j) column[j] = in[j][i];
    x[i] = load(column);
  }
}
inline void store_bf16_pairs(BF16* p, const Vec& first, const Vec& second) {
  BF16 a[16], b[16];
  store_bf16(a, first);
  store_bf16(b, second);
  for (int i = 0; i < 16; ++i) {
    p[2 * i] = a[i];
    p[2 * i + 1] = b[i];
  }
}
